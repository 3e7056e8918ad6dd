//! The kernel's command line, read the way Linux reads it.
//!
//! ```text
//! loglevel=7 memmap="64M$1G" mem=512M "name=with spaces" poweroff -- for init
//! ```
//!
//! Options are separated by white space. Double quotes keep spaces, around a value or a whole option, and are taken
//! off. `-` and `_` are the same in names. After `--` everything is init's.
//!
//! # Invariants
//! - I1: every text handed out is a part of the command line; nothing is copied.

use core::fmt;

/// A command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cmdline<'a> {
    text: &'a str,
}

/// One option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param<'a> {
    /// The name, as written.
    pub name: &'a str,
    /// What stands behind `=`, without quotes; none without `=`.
    pub value: Option<&'a str>,
    /// The whole option, as written, without the quotes around all of it.
    pub text: &'a str,
}

/// An option's value does not have the form that the option needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed<'a> {
    /// The option.
    pub param: Param<'a>,
}

impl fmt::Display for Malformed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Malformed early option '{}'", self.param.name)
    }
}

impl<'a> Cmdline<'a> {
    /// Wraps `text`; any text is a command line.
    pub const fn new(text: &'a str) -> Self {
        Self { text }
    }

    /// The whole text.
    pub const fn text(&self) -> &'a str {
        self.text
    }

    /// The options before `--`, in order (Linux: `parse_args`).
    pub fn params(&self) -> Params<'a> {
        Params { rest: self.text }
    }

    /// What stands behind `--`.
    pub fn init_args(&self) -> &'a str {
        let mut params = self.params();
        params.by_ref().for_each(drop);
        params.rest
    }

    /// All options of that name, in order.
    pub fn all(&self, name: &str) -> impl Iterator<Item = Param<'a>> {
        self.params().filter(move |param| same_name(param.name, name))
    }

    /// The last option of that name: for most options it wins.
    pub fn last(&self, name: &str) -> Option<Param<'a>> {
        self.all(name).last()
    }

    /// Whether an option of that name is there, with a value or without.
    pub fn has(&self, name: &str) -> bool {
        self.last(name).is_some()
    }

    /// The value of the last option of that name; an option without `=` has the value "".
    pub fn value(&self, name: &str) -> Option<&'a str> {
        self.last(name).map(|param| param.value.unwrap_or(""))
    }

    /// The last option of that name as a number (decimal, `0x`, `0`). A malformed one is an error to be reported.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Malformed<'a>> {
        self.parsed(name, |value| {
            simple_number(value).filter(|(_, rest)| rest.is_empty()).map(|(number, _)| number)
        })
    }

    /// The last option of that name as a size in bytes, such as `512M`.
    pub fn size(&self, name: &str) -> Result<Option<u64>, Malformed<'a>> {
        self.parsed(name, |value| memparse(value).filter(|(_, rest)| rest.is_empty()).map(|(size, _)| size))
    }

    /// The last option of that name as a switch: `1 0 y n on off` and the like (Linux: `kstrtobool`).
    pub fn switch(&self, name: &str) -> Result<Option<bool>, Malformed<'a>> {
        self.parsed(name, switch)
    }

    fn parsed<T>(&self, name: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Malformed<'a>> {
        let Some(param) = self.last(name) else { return Ok(None) };
        param.value.and_then(parse).map(Some).ok_or(Malformed { param })
    }

    /// The options that are not in `known`; those with a dot in their name belong to modules and are left out.
    pub fn unknown(&self, known: &[&str]) -> impl Iterator<Item = &'a str> {
        self.params()
            .filter(|param| {
                !param.name.contains('.') && !known.iter().any(|name| same_name(param.name, name))
            })
            .map(|param| param.text)
    }
}

/// Displays texts with a space between them.
#[derive(Debug)]
pub struct Joined<I>(core::cell::RefCell<I>);

impl<'a, I: Iterator<Item = &'a str>> Joined<I> {
    /// Displays `texts`, once: the first display takes them.
    pub fn new(texts: I) -> Self {
        Self(core::cell::RefCell::new(texts))
    }
}

impl<'a, I: Iterator<Item = &'a str>> fmt::Display for Joined<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.borrow_mut().by_ref().enumerate().try_for_each(|(i, text)| {
            f.write_str(if i == 0 { "" } else { " " })?;
            f.write_str(text)
        })
    }
}

/// Iterator over the options.
#[derive(Clone, Debug)]
pub struct Params<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Params<'a> {
    type Item = Param<'a>;

    fn next(&mut self) -> Option<Param<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let text = self.rest.trim_start_matches(is_space);
        let mut quoted = false;
        let end = text
            .find(|c: char| {
                quoted ^= c == '"';
                is_space(c) && !quoted
            })
            .unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        self.rest = rest.trim_start_matches(is_space);
        if word.is_empty() {
            return None;
        }
        if word == "--" {
            // What is left is init's: it stays for `init_args`, and this iterator ends.
            return None;
        }
        Some(param(word))
    }
}

fn param(word: &str) -> Param<'_> {
    // Quotes around the whole option: `"name=with spaces"`.
    let text = match word.strip_prefix('"') {
        Some(inner) => inner.strip_suffix('"').unwrap_or(inner),
        None => word,
    };
    match text.split_once('=') {
        None => Param { name: text, value: None, text },
        Some((name, value)) => {
            let value = match value.strip_prefix('"') {
                Some(inner) => inner.strip_suffix('"').unwrap_or(inner),
                None => value,
            };
            Param { name, value: Some(value), text }
        }
    }
}

fn is_space(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\u{b}'
}

/// Whether two option names are the same: `-` and `_` are (Linux: `parameq`).
pub fn same_name(a: &str, b: &str) -> bool {
    let plain = |byte: u8| if byte == b'-' { b'_' } else { byte };
    a.len() == b.len() && a.bytes().map(plain).eq(b.bytes().map(plain))
}

/// Reads a size at the start of `text`: a number with an optional K, M, G, T, P or E, and what follows it (Linux:
/// `memparse`). None without a digit, or if the size does not fit 64 bits.
pub fn memparse(text: &str) -> Option<(u64, &str)> {
    let (number, rest) = simple_number(text)?;
    let shift = match rest.bytes().next().map(|byte| byte.to_ascii_uppercase()) {
        Some(b'K') => 10,
        Some(b'M') => 20,
        Some(b'G') => 30,
        Some(b'T') => 40,
        Some(b'P') => 50,
        Some(b'E') => 60,
        _ => return Some((number, rest)),
    };
    let size = number.checked_mul(1 << shift)?;
    Some((size, &rest[1..]))
}

/// Reads a number at the start of `text`: `0x` hexadecimal, `0` octal, else decimal; and what follows it (Linux:
/// `simple_strtoull`).
pub fn simple_number(text: &str) -> Option<(u64, &str)> {
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (radix, digits) =
        match hexadecimal.filter(|digits| digits.starts_with(|c: char| c.is_ascii_hexdigit())) {
            Some(digits) => (16, digits),
            None if text.starts_with('0') => (8, text),
            None => (10, text),
        };
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    let number = u64::from_str_radix(&digits[..end], radix).ok()?;
    Some((number, &digits[end..]))
}

fn switch(value: &str) -> Option<bool> {
    match value.as_bytes() {
        [b'y' | b'Y' | b't' | b'T' | b'1', ..] => Some(true),
        [b'n' | b'N' | b'f' | b'F' | b'0', ..] => Some(false),
        [b'o' | b'O', b'n' | b'N', ..] => Some(true),
        [b'o' | b'O', b'f' | b'F', ..] => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(&str, Option<&str>)]) {
        let found: Vec<_> = Cmdline::new(text).params().map(|param| (param.name, param.value)).collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn options_are_separated_by_white_space() {
        check("", &[]);
        check("  \t ", &[]);
        check("a b=1  c= ", &[("a", None), ("b", Some("1")), ("c", Some(""))]);
        check("a=b=c", &[("a", Some("b=c"))]);
    }

    #[test]
    fn quotes_keep_spaces_and_are_taken_off() {
        check(r#"a="b c" d"#, &[("a", Some("b c")), ("d", None)]);
        check(r#""a=b c" d"#, &[("a", Some("b c")), ("d", None)]);
        check(r#""a b""#, &[("a b", None)]);
        check(r#"a="open end"#, &[("a", Some("open end"))]);
    }

    #[test]
    fn two_dashes_end_the_kernels_part() {
        let line = Cmdline::new("a -- b --c d");
        check("a -- b", &[("a", None)]);
        assert_eq!(line.init_args(), "b --c d");
        assert_eq!(Cmdline::new("a b").init_args(), "");
        assert_eq!(Cmdline::new("a --").init_args(), "");
    }

    #[test]
    fn dashes_and_underscores_are_the_same_in_names() {
        assert!(Cmdline::new("slub-debug=F").has("slub_debug"));
        assert!(!Cmdline::new("slub-debugs=F").has("slub_debug"));
    }

    #[test]
    fn the_last_option_wins() {
        assert_eq!(Cmdline::new("a=1 a=2").number("a"), Ok(Some(2)));
        assert_eq!(Cmdline::new("a=1 a=2").number("b"), Ok(None));
    }

    #[test]
    fn malformed_values_are_errors() {
        for text in ["a", "a=", "a=x", "a=5x", "a=99999999999999999999"] {
            assert!(Cmdline::new(text).number("a").is_err(), "{text}");
            assert!(Cmdline::new(text).size("a").is_err(), "{text}");
        }
        assert!(Cmdline::new("a=16E").size("a").is_err());
        assert!(Cmdline::new("a=maybe").switch("a").is_err());
    }

    #[test]
    fn sizes_have_binary_suffixes() {
        for (text, size) in
            [("4096", 4096), ("4k", 4096), ("0x10M", 16 << 20), ("1G", 1 << 30), ("010", 8), ("0", 0)]
        {
            assert_eq!(memparse(text), Some((size, "")), "{text}");
        }
        assert_eq!(memparse("64M$1G"), Some((64 << 20, "$1G")));
        assert_eq!(memparse("0xg"), Some((0, "xg")));
        assert_eq!(memparse("M"), None);
    }

    #[test]
    fn unknown_options_are_named_as_written() {
        let line = Cmdline::new(r#"mem=1G foo sysctl.vm.x=1 bar="1 2" -- baz"#);
        let unknown: Vec<_> = line.unknown(&["mem"]).collect();
        assert_eq!(unknown, ["foo", r#"bar="1 2""#]);
        assert_eq!(std::format!("{}", Joined::new(unknown.into_iter())), r#"foo bar="1 2""#);
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_into_parts_of_it(text in "[a-c=\"\\- \\t\u{e9}0-9KMGx.]{0,60}") {
            let line = Cmdline::new(&text);
            let inside = |part: &str| text.as_bytes().as_ptr_range().contains(&part.as_ptr()) || part.is_empty();
            for param in line.params() {
                prop_assert!(inside(param.name) && inside(param.text));
                prop_assert!(param.value.is_none_or(inside));
                prop_assert!(!param.text.is_empty() || param.name.is_empty());
                let _ = (line.number(param.name), line.size(param.name), line.switch(param.name));
            }
            let _ = line.init_args();
        }

        #[test]
        fn plain_options_come_back_as_written(
            options in proptest::collection::vec(("[a-z][a-z_]{0,5}", proptest::option::of("[a-z0-9,:]{0,5}")), 0..8)
        ) {
            let words: Vec<_> = options.iter().map(|(name, value)| match value {
                Some(value) => std::format!("{name}={value}"),
                None => name.clone(),
            }).collect();
            let text = words.join(" ");
            let found: Vec<_> = Cmdline::new(&text).params()
                .map(|param| (param.name.into(), param.value.map(Into::into))).collect();
            prop_assert_eq!(found, options);
        }

        #[test]
        fn memparse_reads_what_display_writes(size in any::<u32>(), unit in 0usize..4) {
            let text = std::format!("{size}{}", ["", "K", "M", "G"][unit]);
            prop_assert_eq!(memparse(&text), Some((u64::from(size) << (10 * unit), "")));
        }
    }
}

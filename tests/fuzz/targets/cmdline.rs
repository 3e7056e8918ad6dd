//! The command line: whatever it is, it is cut into parts of itself, and each option can be asked for in every way.
//!
//! Input: the text, as the kernel gets it: bytes that cannot be printed become `?`.

use mm::cmdline::{Cmdline, Joined, Param, memparse, simple_number};
use mm::zone::{Setting, Sysctl};

pub(super) fn run(bytes: &[u8]) {
    let printable = |&byte: &u8| if matches!(byte, b' '..=b'~' | b'\t' | b'\n') { byte } else { b'?' };
    check(&String::from_utf8(bytes.iter().map(printable).collect()).expect("ASCII"));
    // The parser itself takes any text.
    check(&String::from_utf8_lossy(bytes));
}

fn check(text: &str) {
    let line = Cmdline::new(text);
    let mut nr = 0;
    for param in line.params() {
        nr += 1;
        check_param(&line, text, param);
    }
    assert!(nr <= text.len() / 2 + 1, "{nr} options in {} bytes", text.len());
    assert!(text.ends_with(line.init_args()));
    let names: Vec<_> = line.params().map(|param| param.name).collect();
    assert_eq!(line.unknown(&names).count(), 0, "an option that is known by its own name");
    let (unknown, dotted) =
        (line.unknown(&[]).count(), names.iter().filter(|name| name.contains('.')).count());
    assert_eq!(unknown + dotted, nr);
    let joined = Joined::new(line.unknown(&[])).to_string();
    assert!(joined.len() <= text.len(), "unknown options are named once");
}

fn check_param(line: &Cmdline<'_>, text: &str, param: Param<'_>) {
    let inside = |part: &str| part.is_empty() || text.as_bytes().as_ptr_range().contains(&part.as_ptr());
    assert!(inside(param.name) && inside(param.text) && param.value.is_none_or(inside));
    assert!(param.text.starts_with(param.name) && !param.name.contains('='));
    let last = line.last(param.name).expect("an option is found by its own name");
    assert!(line.has(param.name) && line.value(param.name) == Some(last.value.unwrap_or("")));
    let size = line.size(param.name);
    if let (Ok(Some(number)), Ok(size)) = (line.number(param.name), &size) {
        assert_eq!(*size, Some(number), "a number without a unit is a size in bytes");
    }
    if let Err(malformed) = size {
        assert!(malformed.to_string().contains(param.name));
    }
    let _ = line.switch(param.name);
    let value = param.value.unwrap_or("");
    if let Some((_, rest)) = memparse(value) {
        assert!(value.ends_with(rest) && rest.len() < value.len());
        let (_, after_number) = simple_number(value).expect("a size begins with a number");
        assert!(rest.len() + 1 >= after_number.len());
    }
    if let Some(setting) = param.name.strip_prefix("sysctl.vm.").and_then(Setting::named) {
        let _ = setting.store(&mut Sysctl::default(), value);
    }
}

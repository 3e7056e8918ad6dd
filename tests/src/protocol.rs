//! What the harness and the kernel under test say to each other. This file is the contract for both sides.
//!
//! ```text
//! harness -> kernel   fw_cfg file opt/strata/ktests: the names of the tests to run, in order, each ended by a newline
//! kernel -> harness   the serial line:
//!
//!     (the boot's log)
//!     KTEST begin slub::a_cache_gives_objects
//!     (what the test prints)
//!     KTEST ok slub::a_cache_gives_objects
//!     KTEST begin slub::another
//!     KTEST fail slub::another: the reason
//!     KTEST done
//!     (exit 0x10)
//! ```
//!
//! Registration: each test puts a line `module::test machines=LIST` and a newline into the section `.ktest_names`, which
//! the harness reads from the ELF file without booting, and a record into `.ktests`, which the kernel walks. LIST is
//! names of [`crate::machines`] with commas between them, or `any` (one default machine), or `all` (every machine).
//!
//! # Invariants
//!
//! - I1: A `KTEST` line starts a line of the console; a time stamp `[    0.123456] ` and a carriage return at the end are
//!   allowed.
//! - I2: A test that begins ends with `ok` or `fail` before the next begins, unless it takes the machine down. A panic
//!   says `fail` first when it still can, then prints what it has to say and exits with 0x11.
//! - I3: A name that the kernel does not know gets `KTEST fail NAME: reason` without a `begin`.
//! - I4: After the last test comes `KTEST done` and exit 0x10, also when tests have failed. Without the fw_cfg file, or
//!   with an empty one, `KTEST done` comes at once.

/// The name of the fw_cfg file, below `opt/strata/`.
pub const SELECTION_FILE: &str = "ktests";

/// What a line of the console says about tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The test starts.
    Begin(&'a str),
    /// The test has passed.
    Ok(&'a str),
    /// The test has failed, and why.
    Fail(&'a str, &'a str),
    /// All tests that were asked for have ended.
    Done,
}

/// Reads one line of the console; none if it is not about tests.
pub fn parse(line: &str) -> Option<Event<'_>> {
    let line = line.trim_end_matches(['\r', '\n']);
    let rest = without_stamp(line).strip_prefix("KTEST ")?;
    let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    match word {
        "begin" => is_name(rest).then_some(Event::Begin(rest)),
        "ok" => is_name(rest).then_some(Event::Ok(rest)),
        "fail" => {
            let (name, reason) = rest.split_once(": ").unwrap_or((rest, ""));
            is_name(name).then_some(Event::Fail(name, reason))
        }
        "done" if rest.is_empty() => Some(Event::Done),
        _ => None,
    }
}

/// The line behind its time stamp, if it has one.
pub fn without_stamp(line: &str) -> &str {
    let Some((stamp, rest)) = line.strip_prefix('[').and_then(|line| line.split_once("] ")) else {
        return line;
    };
    let is_stamp = stamp.bytes().all(|byte| byte.is_ascii_digit() || byte == b' ' || byte == b'.');
    if is_stamp { rest } else { line }
}

/// Whether this can name a test: a path of identifiers.
pub fn is_name(text: &str) -> bool {
    let is_identifier = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    text.split("::").all(is_identifier)
}

/// The selection file: one name a line.
pub fn selection<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("{name}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn says(line: &str, event: Option<Event<'_>>) {
        assert_eq!(parse(line), event, "{line:?}");
    }

    #[test]
    fn lines_of_the_protocol_are_read() {
        says("KTEST begin slub::a", Some(Event::Begin("slub::a")));
        says("KTEST ok slub::a\r\n", Some(Event::Ok("slub::a")));
        says("[    0.123456] KTEST ok slub::a", Some(Event::Ok("slub::a")));
        says("KTEST fail a: b: c", Some(Event::Fail("a", "b: c")));
        says("KTEST fail a::b", Some(Event::Fail("a::b", "")));
        says("KTEST done", Some(Event::Done));
    }

    #[test]
    fn other_lines_are_output() {
        for line in [
            "",
            "KTEST",
            "KTEST ",
            "KTEST begin",
            "KTEST begin ",
            "KTEST begin a b",
            "KTEST done now",
            "KTEST ended a",
            " KTEST ok a",
            "said: KTEST ok a",
            "[x] KTEST ok a",
            "KTEST ok a::",
            "ktest ok a",
            "[    0.1",
            "KTEST ok a-b",
        ] {
            says(line, None);
        }
    }

    #[test]
    fn the_selection_ends_each_name_with_a_newline() {
        assert_eq!(selection(["a::b", "c"]), "a::b\nc\n");
        assert_eq!(selection([]), "");
    }
}

//! The in-kernel tests that an ELF file holds, read without booting it.

use crate::{machines, protocol};
use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection};
use std::collections::BTreeSet;

/// The section with a line per test.
const SECTION: &str = ".ktest_names";

/// An in-kernel test.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Test {
    /// `module::test`.
    pub name: String,
    /// The machines on which it runs.
    pub machines: Vec<String>,
}

/// The tests in `elf`, sorted by name.
///
/// Fails when the section is missing or a line in it is malformed: a test that is lost silently is worse than none.
pub fn read(elf: &[u8]) -> Result<Vec<Test>> {
    let file = object::File::parse(elf).context("the test kernel is no ELF file")?;
    let section =
        file.section_by_name(SECTION).with_context(|| format!("the test kernel has no {SECTION}"))?;
    parse(section.data()?)
}

fn parse(section: &[u8]) -> Result<Vec<Test>> {
    let text = std::str::from_utf8(section).with_context(|| format!("{SECTION} is no text"))?;
    let mut tests = Vec::new();
    // The linker may put NULs between the lines, to align them.
    for line in text.split(['\n', '\0']).filter(|line| !line.is_empty()) {
        tests.push(test(line).with_context(|| format!("in {SECTION}: `{line}`"))?);
    }
    tests.sort();
    let names: BTreeSet<&str> = tests.iter().map(|test| test.name.as_str()).collect();
    if names.len() != tests.len() {
        let twice = tests.windows(2).find(|pair| pair[0].name == pair[1].name);
        bail!("two in-kernel tests are named {}", twice.map_or("alike", |pair| &pair[0].name));
    }
    Ok(tests)
}

fn test(line: &str) -> Result<Test> {
    let Some((name, list)) = line.split_once(" machines=") else { bail!("no machines") };
    if !protocol::is_name(name) {
        bail!("the name is no path of identifiers");
    }
    let machines = match list {
        "any" => vec![machines::DEFAULT.to_owned()],
        "debug" => machines::debug().map(str::to_owned).collect(),
        "all" => machines::ordinary().map(str::to_owned).collect(),
        _ => list.split(',').map(str::to_owned).collect(),
    };
    if let Some(unknown) = machines.iter().find(|machine| machines::find(machine).is_none()) {
        bail!("no machine is named `{unknown}`");
    }
    Ok(Test { name: name.to_owned(), machines })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_tests_in_order() {
        let tests = parse(b"b::x machines=all\n\0\0a::y machines=any\nc machines=planted\n").unwrap();
        let names: Vec<_> = tests.iter().map(|test| test.name.as_str()).collect();
        assert_eq!(names, ["a::y", "b::x", "c"]);
        assert_eq!(tests[0].machines, [machines::DEFAULT]);
        assert_eq!(tests[1].machines, machines::ordinary().collect::<Vec<_>>());
    }

    #[track_caller]
    fn refuses(section: &str, reason: &str) {
        let error = format!("{:#}", parse(section.as_bytes()).unwrap_err());
        assert!(error.contains(reason), "{section:?}: {error}");
    }

    #[test]
    fn malformed_lines_are_refused() {
        refuses("a::b\n", "no machines");
        refuses("a b machines=any\n", "no path");
        refuses("a machines=\n", "no machine is named ``");
        refuses("a machines=any,pdp-11\n", "no machine is named `any`");
        refuses("a machines=any\na machines=all\n", "two in-kernel tests are named a");
        assert!(parse(&[0xff, b'\n']).is_err());
    }
}

//! Seeds: inputs kept as text, `seeds/TARGET-WHAT.hex`.
//!
//! Hexadecimal bytes; white space, and what follows a `#`, is skipped. What stands in double quotes is text.

use std::fs;
use std::path::{Path, PathBuf};

/// An input that is kept.
#[derive(Clone, Debug)]
pub struct Seed {
    /// The file's name without its ending.
    pub name: String,
    /// The input.
    pub bytes: Vec<u8>,
}

/// Where the seeds are.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds")
}

/// The seeds of a target, sorted by name.
///
/// # Panics
/// When a file cannot be read or is malformed.
pub fn of(target: &str) -> Vec<Seed> {
    let mut seeds: Vec<Seed> = fs::read_dir(directory())
        .expect("the directory of the seeds")
        .map(|entry| entry.expect("an entry of the directory of the seeds").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "hex"))
        .filter_map(|path| {
            let name = path.file_stem()?.to_str()?.to_owned();
            name.strip_prefix(target)?.strip_prefix('-')?;
            Some((name, path))
        })
        .map(|(name, path)| {
            let text = fs::read_to_string(&path).expect("a seed");
            let bytes = parse(&text).unwrap_or_else(|line| panic!("{}:{line}: malformed", path.display()));
            Seed { name, bytes }
        })
        .collect();
    seeds.sort_by(|a, b| a.name.cmp(&b.name));
    seeds
}

/// The bytes of a seed's text; the number of the first malformed line otherwise.
pub fn parse(text: &str) -> Result<Vec<u8>, usize> {
    let mut bytes = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next().filter(|&first| first != '#') {
            let (token, after) = match first {
                '"' => rest[1..].split_once('"').ok_or(i + 1)?,
                _ => rest.split_at_checked(2).ok_or(i + 1)?,
            };
            match first {
                '"' => bytes.extend(token.bytes()),
                _ => bytes.push(u8::from_str_radix(token, 16).map_err(|_| i + 1)?),
            }
            rest = after.trim_start();
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_hexadecimal_bytes_and_quoted_text() {
        assert_eq!(parse("01ff  # one\n\n\"a b\" 0a#\"\n"), Ok(b"\x01\xffa b\n".to_vec()));
        assert_eq!(parse("01\n0"), Err(2));
        assert_eq!(parse("\"open"), Err(1));
        assert_eq!(parse("zz"), Err(1));
    }

    #[test]
    fn every_target_has_seeds_and_every_seed_a_target() {
        let files = fs::read_dir(directory()).unwrap().count();
        let of_targets: Vec<_> = crate::TARGETS.iter().map(|target| of(target.name).len()).collect();
        assert!(of_targets.iter().all(|&nr| nr > 0), "{of_targets:?}");
        assert_eq!(of_targets.iter().sum::<usize>(), files);
    }
}

//! What a boot reported: the lines of its log, and the files that `dump=` printed.

use harness::protocol::without_stamp;
use std::collections::BTreeMap;

/// What a boot reported. Linux's facts and our serial log are read into the same form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Log lines without their time stamps and blanks at the end; lines of user programs and firmware among them.
    pub(crate) log: Vec<String>,
    /// Files by their path.
    pub(crate) files: BTreeMap<String, Vec<String>>,
    /// The file whose lines are being read.
    open: Option<String>,
}

impl Report {
    /// Takes the next line of the console.
    pub(crate) fn line(&mut self, line: &str) {
        let line = line.trim_end();
        if let Some(path) = marked(line, "--- begin ") {
            self.files.insert(path.to_owned(), Vec::new());
            self.open = Some(path.to_owned());
        } else if self.open.is_some() && marked(line, "--- end ") == self.open.as_deref() {
            self.open = None;
        } else if let Some(file) = self.open.as_ref().and_then(|path| self.files.get_mut(path)) {
            file.push(line.to_owned());
        } else {
            self.log.push(without_stamp(line).to_owned());
        }
    }

    /// The log lines that begin with one of `prefixes`, in order.
    pub(crate) fn lines(&self, prefixes: &[&str]) -> Vec<String> {
        let wanted = |line: &&String| prefixes.iter().any(|prefix| line.starts_with(prefix));
        self.log.iter().filter(wanted).cloned().collect()
    }

    /// The file's words with a blank between them; none if it was not printed.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        let text = self.files.get(path)?.join(" ");
        Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

fn marked<'a>(line: &'a str, mark: &str) -> Option<&'a str> {
    line.strip_prefix(mark)?.strip_suffix(" ---")
}

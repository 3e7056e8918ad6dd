//! One boot's serial log, taken apart into tests and their verdicts. Pure: lines and an ending go in.
//!
//! ```text
//!            begin            ok, fail                    begin, or a good end
//! (booting) -------> running ----------> ended (held back) -------------------> verdict
//!                       |                   |
//!                       +-- machine ends ---+-- machine ends otherwise --> failed, with the ending as reason
//! ```
//!
//! # Invariants
//!
//! - I1: every test that was asked for gets one verdict, or is left for another boot; none gets both.
//! - I2: a verdict is held back until the next test begins or the machine ends well, so that a test that passes and
//!   ruins the machine is the one that fails.
//! - I3: a boot that begins no test fails all that were asked for; so each boot settles at least one test, and a
//!   series of boots ends.

use crate::protocol::{self, Event};
use boot::run::Outcome;
use std::collections::VecDeque;

/// How a test went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The test.
    pub name: String,
    /// Why it failed; none if it passed.
    pub failure: Option<Failure>,
}

/// Why a test failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// In one line.
    pub reason: String,
    /// The test's part of the serial log, or the boot's when it did not begin.
    pub log: String,
}

/// A boot under way.
#[derive(Debug)]
pub struct Session {
    /// Asked for and not begun yet.
    waiting: Vec<String>,
    /// The test that began last (I2).
    current: Option<Current>,
    done: bool,
    /// Since the boot, or since the current test began.
    log: Log,
}

#[derive(Debug)]
struct Current {
    name: String,
    /// What it said at its end.
    report: Option<Result<(), String>>,
}

impl Session {
    /// A boot that was asked for these tests.
    pub fn new(names: impl IntoIterator<Item = String>) -> Session {
        let waiting = names.into_iter().collect();
        Session { waiting, current: None, done: false, log: Log::default() }
    }

    /// Takes the next line of the console. Returns a verdict that is certain now.
    pub fn line(&mut self, line: &str) -> Option<Verdict> {
        let mut verdict = None;
        match protocol::parse(line) {
            Some(Event::Begin(name)) => verdict = self.begin(name),
            Some(Event::Ok(name)) => self.report(name, Ok(())),
            Some(Event::Fail(name, reason)) => verdict = self.fail(name, reason),
            Some(Event::Done) => self.done = true,
            None => {}
        }
        self.log.push(line);
        verdict
    }

    /// What is neither asked for nor under way is some test's output.
    fn begin(&mut self, name: &str) -> Option<Verdict> {
        let position = self.waiting.iter().position(|waiting| waiting == name)?;
        self.waiting.remove(position);
        let before = self.current.replace(Current { name: name.to_owned(), report: None });
        let log = std::mem::take(&mut self.log).text();
        before.map(|before| {
            let unfinished = Err("the next test began before it ended".to_owned());
            verdict(before.name, before.report.unwrap_or(unfinished), log)
        })
    }

    /// A test that has not begun fails at once: the kernel does not know it.
    fn fail(&mut self, name: &str, reason: &str) -> Option<Verdict> {
        if let Some(position) = self.waiting.iter().position(|waiting| waiting == name) {
            let name = self.waiting.remove(position);
            return Some(verdict(name, Err(reason.to_owned()), String::new()));
        }
        self.report(name, Err(reason.to_owned()));
        None
    }

    fn report(&mut self, name: &str, report: Result<(), String>) {
        if let Some(current) = &mut self.current
            && current.name == name
            && current.report.is_none()
        {
            current.report = Some(report);
        }
    }

    /// The machine has ended. Returns the last verdicts, and the tests that need another boot.
    pub fn end(self, outcome: Outcome) -> (Vec<Verdict>, Vec<String>) {
        let log = self.log.text();
        let all = |reason: String| {
            let failed = |name| verdict(name, Err(reason.clone()), log.clone());
            self.waiting.iter().cloned().map(failed).collect::<Vec<_>>()
        };
        let Some(current) = self.current else {
            return match self.done {
                true => (all("the kernel did not run it".into()), Vec::new()),
                false => (all(format!("the boot did not come to the tests: {outcome}")), Vec::new()),
            };
        };
        let report = match current.report {
            Some(Ok(())) if self.done && outcome == Outcome::Success => Ok(()),
            Some(Ok(())) => Err(format!("it passed, but after it {outcome}")),
            Some(Err(reason)) => Err(reason),
            None => Err(ending_of(outcome)),
        };
        let mut verdicts = if self.done { all("the kernel did not run it".into()) } else { Vec::new() };
        verdicts.insert(0, verdict(current.name, report, log));
        (verdicts, if self.done { Vec::new() } else { self.waiting })
    }
}

fn verdict(name: String, report: Result<(), String>, log: String) -> Verdict {
    Verdict { name, failure: report.err().map(|reason| Failure { reason, log }) }
}

/// What it means that the machine has ended so in the middle of a test.
fn ending_of(outcome: Outcome) -> String {
    match outcome {
        Outcome::Success => "it ended the run early, with success".into(),
        Outcome::Failure => "it panicked, or ended the run with failure".into(),
        Outcome::Reset => "the machine was reset: a triple fault".into(),
        Outcome::Timeout => "it did not end in time".into(),
        Outcome::Signal(_) | Outcome::Qemu(_) => outcome.to_string(),
    }
}

/// The last lines of a log: a test that prints without end must not fill the host's memory.
#[derive(Debug, Default)]
struct Log {
    lines: VecDeque<String>,
    nr_dropped: usize,
}

impl Log {
    const MAX_LINES: usize = 5000;

    fn push(&mut self, line: &str) {
        if self.lines.len() == Log::MAX_LINES {
            self.lines.pop_front();
            self.nr_dropped += 1;
        }
        self.lines.push_back(line.trim_end_matches(['\r', '\n']).to_owned());
    }

    fn text(self) -> String {
        let mut text = String::new();
        if self.nr_dropped > 0 {
            text = format!("({} lines before)\n", self.nr_dropped);
        }
        for line in self.lines {
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a log through a session: `name` for a pass, `name: reason` for a failure, and what is left.
    #[track_caller]
    fn gives(asked: &str, lines: &[&str], outcome: Outcome, wanted: &[&str], left: &str) -> Vec<Verdict> {
        let mut session = Session::new(asked.split_whitespace().map(str::to_owned));
        let mut verdicts: Vec<_> = lines.iter().filter_map(|line| session.line(line)).collect();
        let (last, rest) = session.end(outcome);
        verdicts.extend(last);
        let found: Vec<_> = verdicts
            .iter()
            .map(|verdict| match &verdict.failure {
                None => verdict.name.clone(),
                Some(failure) => format!("{}: {}", verdict.name, failure.reason),
            })
            .collect();
        assert_eq!((found, rest.join(" ").as_str()), (wanted.iter().map(|w| w.to_string()).collect(), left));
        verdicts
    }

    #[test]
    fn a_good_boot_gives_each_test_its_own_verdict() {
        let lines =
            ["boot", "KTEST begin a", "KTEST ok a", "KTEST begin b", "x", "KTEST fail b: no", "KTEST done"];
        let verdicts = gives("a b", &lines, Outcome::Success, &["a", "b: no"], "");
        assert_eq!(
            verdicts[1].failure.as_ref().unwrap().log,
            "KTEST begin b\nx\nKTEST fail b: no\nKTEST done\n"
        );
    }

    #[test]
    fn a_test_that_takes_the_machine_down_fails_and_the_rest_is_left() {
        for (outcome, reason) in [
            (Outcome::Success, "b: it ended the run early, with success"),
            (Outcome::Failure, "b: it panicked, or ended the run with failure"),
            (Outcome::Reset, "b: the machine was reset: a triple fault"),
            (Outcome::Timeout, "b: it did not end in time"),
            (Outcome::Signal(9), "b: QEMU was ended by signal 9"),
        ] {
            let lines = ["KTEST begin a", "KTEST ok a", "KTEST begin b", "b says"];
            let verdicts = gives("a b c d", &lines, outcome, &["a", reason], "c d");
            assert_eq!(verdicts[1].failure.as_ref().unwrap().log, "KTEST begin b\nb says\n");
        }
    }

    #[test]
    fn a_test_that_passes_and_ruins_the_machine_fails() {
        let lines = ["KTEST begin a", "KTEST ok a", "BUG"];
        let reason = "a: it passed, but after it the kernel reported failure";
        gives("a b", &lines, Outcome::Failure, &[reason], "b");
        let reason = "a: it passed, but after it the time is up";
        gives("a", &["KTEST begin a", "KTEST ok a", "KTEST done"], Outcome::Timeout, &[reason], "");
    }

    #[test]
    fn a_boot_that_begins_no_test_fails_them_all() {
        let reason = "the boot did not come to the tests: the kernel reported failure";
        let verdicts = gives(
            "a b",
            &["panic"],
            Outcome::Failure,
            &[&format!("a: {reason}"), &format!("b: {reason}")],
            "",
        );
        assert_eq!(verdicts[0].failure.as_ref().unwrap().log, "panic\n");
    }

    #[test]
    fn tests_that_the_kernel_leaves_out_fail() {
        gives("a", &["KTEST done"], Outcome::Success, &["a: the kernel did not run it"], "");
        let lines = ["KTEST begin a", "KTEST ok a", "KTEST done"];
        gives("a b", &lines, Outcome::Success, &["a", "b: the kernel did not run it"], "");
    }

    #[test]
    fn lines_out_of_turn_are_output() {
        let lines = [
            "KTEST ok a",
            "KTEST begin x",
            "KTEST begin a",
            "KTEST ok b",
            "KTEST fail a: no",
            "KTEST ok a",
            "KTEST begin a",
            "KTEST done",
        ];
        gives("a", &lines, Outcome::Success, &["a: no"], "");
        let lines = ["KTEST begin a", "KTEST begin b", "KTEST ok b", "KTEST done"];
        gives("a b", &lines, Outcome::Success, &["a: the next test began before it ended", "b"], "");
    }

    #[test]
    fn tests_that_the_kernel_does_not_know_fail_at_once() {
        let lines = ["KTEST fail b: no such test", "KTEST begin a", "KTEST ok a", "KTEST done"];
        gives("a b", &lines, Outcome::Success, &["b: no such test", "a"], "");
    }

    #[test]
    fn a_panic_that_names_its_test_gives_the_reason() {
        let lines = ["KTEST begin a", "KTEST fail a: one is two", "backtrace"];
        let verdicts = gives("a b", &lines, Outcome::Failure, &["a: one is two"], "b");
        assert!(verdicts[0].failure.as_ref().unwrap().log.ends_with("backtrace\n"));
    }

    #[test]
    fn an_endless_log_keeps_its_end() {
        let mut session = Session::new(["a".to_owned()]);
        for i in 0..Log::MAX_LINES + 10 {
            session.line(&format!("line {i}"));
        }
        let (verdicts, _) = session.end(Outcome::Timeout);
        let log = &verdicts[0].failure.as_ref().unwrap().log;
        assert!(log.starts_with("(10 lines before)\nline 10\n") && log.ends_with("line 5009\n"));
    }
}

//! The text of a report, in the form of Linux's lockdep: what this CPU does, and the other chain.

use core::fmt;

use super::orders::Seen;
use super::{Held, HeldLocks, Level, Orders, Violation};
use crate::id::CpuId;

/// A violation with all that is known of it.
#[derive(Debug)]
pub struct Report<'a> {
    /// What is wrong.
    pub violation: Violation,
    /// The CPU that does it.
    pub cpu: CpuId,
    /// The lock that it takes or gives back, or where it is with locks held.
    pub subject: Subject<'a>,
    /// The held lock that is in the way, if one is.
    pub against: Option<Held>,
    /// All that the CPU holds.
    pub held: &'a HeldLocks,
    /// What was seen before.
    pub orders: &'a Orders,
}

/// What a report is about.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// A lock that is taken or given back.
    Lock(Held),
    /// A place in the kernel's life at which nothing may be held.
    Place(&'a str),
}

impl Violation {
    /// The line that the report starts with, as Linux has it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Order => "WARNING: possible circular locking dependency detected",
            Self::SameLevel | Self::Recursion => "WARNING: possible recursive locking detected",
            Self::InterruptsOn => "WARNING: inconsistent lock state",
            Self::TooMany => "BUG: MAX_LOCK_DEPTH too low!",
            Self::NotHeld => "WARNING: bad unlock balance detected!",
            Self::StillHeld => "WARNING: locks are still held!",
        }
    }
}

/// A held or wanted lock: `ffff8880012a0040 (Zone), at: mm/src/page_alloc/rmqueue.rs:31:32`.
struct Line(Held);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Held { lock, level, at } = self.0;
        write!(f, "{lock:016x} ({level:?}), at: {at}")
    }
}

const RULE: &str = "======================================================";
const THIN_RULE: &str = "------------------------------------------------------";

/// Who takes the lines.
type Lines<'l> = dyn FnMut(fmt::Arguments<'_>) + 'l;

/// Each line of a fixed text.
fn text(lines: &mut Lines<'_>, text: &str) {
    text.lines().for_each(|line| lines(format_args!("{line}")));
}

impl Report<'_> {
    /// Gives the report to `lines`, line by line.
    pub fn write(&self, lines: &mut Lines<'_>) {
        lines(format_args!("{RULE}"));
        lines(format_args!("{}", self.violation.title()));
        lines(format_args!("{THIN_RULE}"));
        match self.subject {
            Subject::Lock(lock) if self.violation == Violation::NotHeld => {
                lines(format_args!("CPU {} is trying to release lock:", self.cpu));
                lines(format_args!("{}", Line(lock)));
                lines(format_args!("but there are no more locks to release: this CPU does not hold it."));
            }
            Subject::Lock(lock) => {
                lines(format_args!("CPU {} is trying to acquire lock:", self.cpu));
                lines(format_args!("{}", Line(lock)));
                self.why(lock, lines);
            }
            Subject::Place(place) => lines(format_args!("CPU {} has locks held {place}.", self.cpu)),
        }
        lines(format_args!(""));
        self.held_locks(lines);
    }

    /// The report in a few words, for the last line of the run.
    pub fn summary(&self) -> impl fmt::Display {
        fmt::from_fn(|f| match (self.subject, self.against) {
            (Subject::Lock(wanted), Some(held)) => {
                write!(f, "lock order: {:?} wanted while {:?} is held", wanted.level, held.level)
            }
            (Subject::Lock(lock), None) => write!(f, "{}: {:?}", self.violation.title(), lock.level),
            (Subject::Place(place), _) => write!(f, "{} locks are held {place}", self.held.len()),
        })
    }

    /// Why `wanted` must not be taken.
    fn why(&self, wanted: Held, lines: &mut Lines<'_>) {
        let Some(against) = self.against else {
            lines(format_args!(""));
            return match self.violation {
                Violation::InterruptsOn => text(
                    lines,
                    "with interrupts on: a handler on this CPU that takes the lock would wait for ever.",
                ),
                _ => lines(format_args!(
                    "but it is holding {} locks, the most that are tracked.",
                    self.held.len()
                )),
            };
        };
        text(lines, "\nbut it is already holding lock:");
        lines(format_args!("{}", Line(against)));
        lines(format_args!(""));
        match self.violation {
            Violation::Recursion => text(lines, "which is the same: this CPU would wait for itself."),
            Violation::SameLevel => {
                lines(format_args!(
                    "of the same level: locks of {:?} have no order among them.",
                    wanted.level
                ));
            }
            _ => self.other_chain(wanted.level, against.level, lines),
        }
    }

    /// The opposite order: as it was seen, or as it is declared.
    fn other_chain(&self, wanted: Level, held: Level, lines: &mut Lines<'_>) {
        text(lines, "which comes after the new lock.\n\n");
        match self.orders.chain(wanted, held) {
            Some(chain) => {
                text(lines, "the existing dependency chain (in reverse order) is:");
                let nr_pairs = chain.iter().count();
                for (above, Seen { outer, outer_at, inner, inner_at }) in chain.iter().rev().enumerate() {
                    lines(format_args!("-> #{} ({inner:?}): taken at {inner_at}", nr_pairs - above));
                    lines(format_args!("         under ({outer:?}), taken at {outer_at}"));
                }
                lines(format_args!("-> #0 ({wanted:?})"));
            }
            None => {
                text(lines, "that order was not seen yet; it is declared by lockdep::Level:");
                let declared = &Level::ALL[wanted.index()..=held.index()];
                lines(format_args!("   {}", Arrows(declared)));
            }
        }
        scenario(lines, held, wanted);
    }

    fn held_locks(&self, lines: &mut Lines<'_>) {
        match self.held.len() {
            0 => return lines(format_args!("no locks held by CPU {}.", self.cpu)),
            1 => lines(format_args!("1 lock held by CPU {}:", self.cpu)),
            n => lines(format_args!("{n} locks held by CPU {}:", self.cpu)),
        }
        for (n, held) in self.held.iter().enumerate() {
            lines(format_args!(" #{n}: {}", Line(held)));
        }
    }
}

/// `SlabCaches -> SlabNode -> Zone`.
struct Arrows<'a>(&'a [Level]);

impl fmt::Display for Arrows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .enumerate()
            .try_for_each(|(n, level)| write!(f, "{}{level:?}", if n == 0 { "" } else { " -> " }))
    }
}

/// How two CPUs come to wait for each other, when the other one goes by the existing chain.
fn scenario(lines: &mut Lines<'_>, held: Level, wanted: Level) {
    text(lines, "\n Possible unsafe locking scenario:\n\n       CPU0                    CPU1");
    text(lines, "       ----                    ----");
    lines(format_args!("  lock({held:?});"));
    lines(format_args!("{:31}lock({wanted:?});", ""));
    lines(format_args!("{:31}lock({held:?});", ""));
    lines(format_args!("  lock({wanted:?});"));
    text(lines, "\n *** DEADLOCK ***");
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;
    use core::panic::Location;
    use std::string::String;
    use std::vec::Vec;

    /// A lock of that level, taken on the line of the caller.
    #[track_caller]
    fn lock(lock: usize, level: Level) -> Held {
        Held { lock, level, at: Location::caller() }
    }

    /// What CPU 3 is told that holds `held` and wants `wanted`. Lines of this file show as `LINE+n`, from `base` on.
    fn report(held: &HeldLocks, wanted: Held, orders: &Orders, base: u32) -> String {
        let (violation, against) = check(held, wanted).unwrap_err();
        let subject = Subject::Lock(wanted);
        shorten(&Report { violation, cpu: CpuId(3), subject, against: Some(against), held, orders }, base)
    }

    fn text_of(report: &Report<'_>) -> String {
        let mut text = String::new();
        report.write(&mut |line| {
            assert!(!std::format!("{line}").contains('\n'), "a line is one line: {line}");
            text += &std::format!("{line}\n");
        });
        text
    }

    fn shorten(report: &Report<'_>, base: u32) -> String {
        let mut text = text_of(report);
        for n in (0..20).rev() {
            let place = std::format!("{}:{}:", file!(), base + n);
            while let Some(at) = text.find(&place) {
                let end = text[at..].find(['\n', ',']).map_or(text.len(), |len| at + len);
                text.replace_range(at..end, &std::format!("LINE+{n}"));
            }
        }
        text
    }

    #[test]
    fn a_wrong_order_is_reported_with_both_chains() {
        let (orders, held) = (Orders::new(), HeldLocks::new());
        let base = line!();
        let map = lock(1, Level::PageTable);
        let slab = lock(2, Level::SlabNode);
        let zone = lock(0xffff_8880_0000_1000, Level::Zone);
        let wrong = lock(0xffff_ffff_8004_2000, Level::PageTable);
        orders.note(map, slab);
        orders.note(slab, zone);
        held.push(zone).unwrap();
        let text = report(&held, wrong, &orders, base);
        let wanted = "\
======================================================
WARNING: possible circular locking dependency detected
------------------------------------------------------
CPU 3 is trying to acquire lock:
ffffffff80042000 (PageTable), at: LINE+4

but it is already holding lock:
ffff888000001000 (Zone), at: LINE+3

which comes after the new lock.

the existing dependency chain (in reverse order) is:
-> #2 (Zone): taken at LINE+3
         under (SlabNode), taken at LINE+2
-> #1 (SlabNode): taken at LINE+2
         under (PageTable), taken at LINE+1
-> #0 (PageTable)

 Possible unsafe locking scenario:

       CPU0                    CPU1
       ----                    ----
  lock(Zone);
                               lock(PageTable);
                               lock(Zone);
  lock(PageTable);

 *** DEADLOCK ***

1 lock held by CPU 3:
 #0: ffff888000001000 (Zone), at: LINE+3
";
        assert_eq!(text, wanted);
    }

    #[test]
    fn an_order_that_was_never_seen_is_reported_as_it_is_declared() {
        let held = HeldLocks::new();
        let base = line!();
        held.push(lock(1, Level::SlabCaches)).unwrap();
        held.push(lock(2, Level::Leaf)).unwrap();
        let text = report(&held, lock(3, Level::SlabNode), &Orders::new(), base);
        let declared = Level::ALL.iter().filter(|&&level| (Level::SlabNode..=Level::Leaf).contains(&level));
        let declared: Vec<_> = declared.map(|level| std::format!("{level:?}")).collect();
        assert!(declared.starts_with(&["SlabNode".into()]) && declared.ends_with(&["Leaf".into()]));
        let line = std::format!("it is declared by lockdep::Level:\n   {}\n", declared.join(" -> "));
        assert!(text.contains("that order was not seen yet; ") && text.contains(&line), "{text}");
        let all = "2 locks held by CPU 3:\n #0: 0000000000000001 (SlabCaches), at: LINE+1\n #1: 0000000000000002 (Leaf), at: LINE+2\n";
        assert!(text.ends_with(all), "{text}");
    }

    #[test]
    fn a_lock_taken_twice_and_two_of_a_level_are_told_apart() {
        let held = HeldLocks::new();
        let base = line!();
        held.push(lock(1, Level::Zone)).unwrap();
        let text = report(&held, lock(1, Level::Zone), &Orders::new(), base);
        assert!(text.contains("WARNING: possible recursive locking detected\n"), "{text}");
        assert!(text.contains("which is the same: this CPU would wait for itself."), "{text}");
        let text = report(&held, lock(2, Level::Zone), &Orders::new(), base);
        assert!(text.contains("of the same level: locks of Zone have no order among them."), "{text}");
    }

    #[test]
    fn other_violations_say_what_is_held() {
        let (held, orders) = (HeldLocks::new(), Orders::new());
        let report = |violation, subject, held: &HeldLocks| {
            text_of(&Report { violation, cpu: CpuId(0), subject, against: None, held, orders: &orders })
        };
        let zone = lock(7, Level::Zone);
        let text = report(Violation::InterruptsOn, Subject::Lock(zone), &held);
        assert!(
            text.contains("with interrupts on") && text.ends_with("\nno locks held by CPU 0.\n"),
            "{text}"
        );
        let text = report(Violation::NotHeld, Subject::Lock(zone), &held);
        assert!(text.contains("trying to release lock:\n0000000000000007 (Zone)"), "{text}");
        held.push(zone).unwrap();
        let text = report(Violation::StillHeld, Subject::Place("when a thread sleeps"), &held);
        assert!(
            text.contains("CPU 0 has locks held when a thread sleeps.\n\n1 lock held by CPU 0:"),
            "{text}"
        );
        for n in 1..super::super::MAX_LOCK_DEPTH {
            held.push(lock(7 + n, Level::Zone)).unwrap();
        }
        let text = report(Violation::TooMany, Subject::Lock(zone), &held);
        assert!(text.contains("but it is holding 48 locks, the most that are tracked."), "{text}");
    }
}

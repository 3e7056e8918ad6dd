//! What was tried when the MMU refused.

bitflags::bitflags! {
    /// The error code that the CPU pushes.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct ErrorCode: u64 {
        const PROTECTION = 1 << 0;
        const WRITE = 1 << 1;
        const USER = 1 << 2;
        const RESERVED_BIT = 1 << 3;
        const FETCH = 1 << 4;
    }
}

/// What was tried.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FaultAccess {
    /// A read.
    Read,
    /// A write.
    Write,
    /// The fetch of an instruction.
    Exec,
}

/// Who tried it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// A process.
    User,
    /// The kernel.
    Kernel,
}

/// An access that the MMU refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FaultKind {
    /// What was tried.
    pub access: FaultAccess,
    /// Who tried it.
    pub mode: Mode,
}

impl FaultKind {
    /// From the error code that the CPU pushes; `None` when an entry has reserved bits set: page tables are broken then.
    pub fn from_error_code(code: u64) -> Option<Self> {
        let code = ErrorCode::from_bits_retain(code);
        if code.contains(ErrorCode::RESERVED_BIT) {
            return None;
        }
        let access = if code.contains(ErrorCode::WRITE) {
            FaultAccess::Write
        } else if code.contains(ErrorCode::FETCH) {
            FaultAccess::Exec
        } else {
            FaultAccess::Read
        };
        let mode = if code.contains(ErrorCode::USER) { Mode::User } else { Mode::Kernel };
        Some(Self { access, mode })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_codes_say_what_was_tried_and_by_whom() {
        use {FaultAccess::*, Mode::*};
        for (code, wanted) in [
            (0b00000, Some((Read, Kernel))),
            (0b00110, Some((Write, User))),
            (0b00111, Some((Write, User))),
            (0b10101, Some((Exec, User))),
            (0b01101, None),
        ] {
            let wanted = wanted.map(|(access, mode)| FaultKind { access, mode });
            assert_eq!(FaultKind::from_error_code(code), wanted, "{code:#b}");
        }
    }
}

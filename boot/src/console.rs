//! What of the console's output is shown while the firmware still speaks.
//!
//! OVMF takes the serial line for a terminal: it clears the screen and moves the cursor. That would wipe what the user's
//! terminal shows, and puts control characters into files. They are dropped until OVMF starts the boot loader; from
//! there on, every byte passes.

/// OVMF's last line.
const LAST_LINE: &[u8] = b"BdsDxe: starting ";

/// Drops the firmware's control sequences out of a stream.
#[derive(Debug, Default)]
pub struct FirmwareFilter {
    state: State,
    /// The current line, as far as it is needed to know the firmware's last one.
    line: Vec<u8>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// Behind an escape character.
    Escape,
    /// Behind `ESC [`, until a letter.
    Sequence,
    /// The firmware is through.
    Off,
}

impl FirmwareFilter {
    /// A filter for the start of a boot under UEFI.
    pub fn new() -> FirmwareFilter {
        FirmwareFilter::default()
    }

    /// Appends to `out` what is to be shown of `input`.
    pub fn pass(&mut self, input: &[u8], out: &mut Vec<u8>) {
        for (i, &byte) in input.iter().enumerate() {
            if self.state == State::Off {
                out.extend_from_slice(&input[i..]);
                return;
            }
            self.byte(byte, out);
        }
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<u8>) {
        const ESCAPE: u8 = 0x1b;
        self.state = match (&self.state, byte) {
            (State::Text, ESCAPE) => State::Escape,
            (State::Escape, b'[') => State::Sequence,
            (State::Escape, _) => State::Text,
            (State::Sequence, b'@'..=b'~') => State::Text,
            (State::Sequence, _) => State::Sequence,
            (State::Text | State::Off, _) => {
                out.push(byte);
                self.text(byte)
            }
        };
    }

    fn text(&mut self, byte: u8) -> State {
        if byte == b'\n' {
            let is_last = self.line.starts_with(LAST_LINE);
            self.line.clear();
            return if is_last { State::Off } else { State::Text };
        }
        if self.line.len() < LAST_LINE.len() && byte != b'\r' {
            self.line.push(byte);
        }
        State::Text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &[u8] =
        b"\x1b[2J\x1b[01;01HBdsDxe: loading Boot0001\r\n\x1b[=3hBdsDxe: starting Boot0001\r\n\x1b[1mhi";
    const SHOWN: &[u8] = b"BdsDxe: loading Boot0001\r\nBdsDxe: starting Boot0001\r\n\x1b[1mhi";

    #[test]
    fn control_sequences_are_dropped_until_the_loader_starts() {
        let mut out = Vec::new();
        FirmwareFilter::new().pass(BOOT, &mut out);
        assert_eq!(out, SHOWN);
    }

    #[test]
    fn sequences_may_be_cut_anywhere() {
        for cut in 0..BOOT.len() {
            let (mut filter, mut out) = (FirmwareFilter::new(), Vec::new());
            filter.pass(&BOOT[..cut], &mut out);
            filter.pass(&BOOT[cut..], &mut out);
            assert_eq!(out, SHOWN, "cut at {cut}");
        }
    }
}

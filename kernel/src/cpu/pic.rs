//! The two 8259 interrupt controllers, kept silent: moved away from the exceptions' vectors, every line masked.
//!
//! A spurious interrupt (line 7 or 15) can come all the same, and then arrives at [`BASE`] + 7 or + 15.

use x86_64::instructions::port::Port;

/// The vector of line 0; line 15 is at `BASE + 15`.
pub const BASE: u8 = 0x20;
/// Number of lines.
pub const LINES: u8 = 16;

const COMMAND: [u16; 2] = [0x20, 0xa0];
const DATA: [u16; 2] = [0x21, 0xa1];

/// Moves both controllers to [`BASE`] and masks all lines.
pub fn init() {
    const INIT_EXPECT_ICW4: u8 = 0x11;
    const MODE_8086: u8 = 1;
    /// The second controller hangs on line 2 of the first.
    const CASCADE: [u8; 2] = [1 << 2, 2];
    for i in 0..2 {
        let bytes = [(COMMAND[i], INIT_EXPECT_ICW4), (DATA[i], BASE + 8 * i as u8), (DATA[i], CASCADE[i])];
        for (port, value) in bytes.into_iter().chain([(DATA[i], MODE_8086), (DATA[i], 0xff)]) {
            write(port, value);
        }
    }
}

/// Takes note of the interrupt at `line`; returns whether a device really raised it.
pub fn acknowledge(line: u8) -> bool {
    const READ_IN_SERVICE: u8 = 0x0b;
    const END_OF_INTERRUPT: u8 = 0x20;
    let chip = usize::from(line / 8);
    write(COMMAND[chip], READ_IN_SERVICE);
    // SAFETY: reads the in-service register that was just selected.
    let in_service: u8 = unsafe { Port::new(COMMAND[chip]).read() };
    let real = in_service & 1 << (line % 8) != 0;
    if real {
        write(COMMAND[chip], END_OF_INTERRUPT);
    }
    // The first controller saw the cascade, spurious or not.
    if chip == 1 {
        write(COMMAND[0], END_OF_INTERRUPT);
    }
    real
}

fn write(port: u16, value: u8) {
    // SAFETY: the controllers' ports, which only this module touches.
    unsafe { Port::new(port).write(value) };
}

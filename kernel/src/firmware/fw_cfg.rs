//! QEMU's firmware configuration device: named files from the host.
//!
//! ```text
//! 0x510 selector (u16)   0x511 data (u8)
//!
//! item 0x00 "QEMU"    0x19 directory: count, then 64 bytes a file, all big-endian
//! ```
//!
//! # Invariants
//! - I1: a [`FwCfg`] exists only where the device answered with its signature.
//!
//! # Locking
//! Selecting and reading belong together: the boot CPU uses it alone, at boot.

use x86_64::instructions::port::Port;

const SELECTOR: u16 = 0x510;
const DATA: u16 = 0x511;

const ITEM_SIGNATURE: u16 = 0x00;
const ITEM_DIRECTORY: u16 = 0x19;
const ENTRY: usize = 64;
const NAME: usize = 56;

/// The device.
#[derive(Clone, Copy, Debug)]
pub struct FwCfg(());

/// A file of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// Size in bytes.
    pub size: u32,
    select: u16,
}

impl FwCfg {
    /// Finds the device; none on machines that are not QEMU's.
    pub fn probe() -> Option<Self> {
        let mut signature = [0; 4];
        let device = Self(());
        device.read_item(ITEM_SIGNATURE, &mut signature);
        if &signature != b"QEMU" {
            return None;
        }
        Some(device)
    }

    /// Finds a file by name. Cost: reads the directory, 64 bytes a file.
    pub fn find(&self, name: &str) -> Option<File> {
        let mut count = [0; 4];
        self.read_item(ITEM_DIRECTORY, &mut count);
        for _ in 0..u32::from_be_bytes(count) {
            let mut entry = [0; ENTRY];
            read_data(&mut entry);
            let found = &entry[ENTRY - NAME..];
            let length = found.iter().position(|&byte| byte == 0).unwrap_or(NAME);
            if &found[..length] == name.as_bytes() {
                return Some(File {
                    size: u32::from_be_bytes([entry[0], entry[1], entry[2], entry[3]]),
                    select: u16::from_be_bytes([entry[4], entry[5]]),
                });
            }
        }
        None
    }

    /// Reads the start of `file` into `buffer`; returns how many bytes of it are the file's.
    pub fn read(&self, file: File, buffer: &mut [u8]) -> usize {
        let length = buffer.len().min(file.size as usize);
        self.read_item(file.select, &mut buffer[..length]);
        length
    }

    /// Opens `file` for reading byte by byte. No other item may be read until it is done with.
    pub fn bytes(&self, file: File) -> impl Iterator<Item = u8> {
        select(file.select);
        (0..file.size).map(|_| {
            let mut byte = [0];
            read_data(&mut byte);
            byte[0]
        })
    }

    fn read_item(&self, item: u16, buffer: &mut [u8]) {
        select(item);
        read_data(buffer);
    }
}

fn select(item: u16) {
    // SAFETY: the device's selector; on machines without the device the write goes nowhere.
    unsafe { Port::new(SELECTOR).write(item) };
}

fn read_data(buffer: &mut [u8]) {
    let mut data = Port::<u8>::new(DATA);
    for byte in buffer {
        // SAFETY: reads the selected item on; without the device it reads all ones.
        *byte = unsafe { data.read() };
    }
}

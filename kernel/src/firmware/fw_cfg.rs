//! QEMU's firmware configuration device: named files from the host.
//!
//! ```text
//! 0x510 selector (u16)   0x511 data (u8)   0x514 DMA address (u64, big-endian, high half first)
//!
//! item 0x00 "QEMU"    0x01 feature bits    0x19 directory: count, then 64 bytes a file, all big-endian
//! ```
//!
//! # Invariants
//! - I1: a [`FwCfg`] exists only where the device answered with its signature.
//!
//! # Locking
//! Selecting and reading belong together: the boot CPU uses it alone, at boot.

use core::fmt;
use core::sync::atomic::{Ordering, fence};

use mm::PhysAddr;
use x86_64::VirtAddr;
use x86_64::instructions::port::Port;

use super::translate;

const SELECTOR: u16 = 0x510;
const DATA: u16 = 0x511;
const DMA_HIGH: u16 = 0x514;
const DMA_LOW: u16 = 0x518;

const ITEM_SIGNATURE: u16 = 0x00;
const ITEM_FEATURES: u16 = 0x01;
const ITEM_DIRECTORY: u16 = 0x19;
const FEATURE_DMA: u32 = 1 << 1;
const ENTRY: usize = 64;
const NAME: usize = 56;

/// The device.
#[derive(Clone, Copy, Debug)]
pub struct FwCfg {
    dma: bool,
}

/// A file of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// Size in bytes.
    pub size: u32,
    select: u16,
}

/// What can go wrong with a DMA read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The device cannot do DMA.
    NoDma,
    /// The range is not within the file.
    Range,
    /// The device reports an error.
    Device,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoDma => "fw_cfg cannot do DMA",
            Self::Range => "range outside the file",
            Self::Device => "fw_cfg reports a DMA error",
        })
    }
}

impl FwCfg {
    /// Finds the device; none on machines that are not QEMU's.
    pub fn probe() -> Option<Self> {
        let mut signature = [0; 4];
        let mut device = Self { dma: false };
        device.read_item(ITEM_SIGNATURE, &mut signature);
        if &signature != b"QEMU" {
            return None;
        }
        let mut features = [0; 4];
        device.read_item(ITEM_FEATURES, &mut features);
        device.dma = u32::from_le_bytes(features) & FEATURE_DMA != 0;
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

    /// Reads `length` bytes at `offset` of `file` straight into physical memory at `to`.
    ///
    /// # Safety
    /// The physical memory is the caller's, and nothing else refers to it meanwhile.
    pub unsafe fn read_phys(&self, file: File, offset: u32, length: u32, to: PhysAddr) -> Result<(), Error> {
        const SELECT_SKIP: u32 = 1 << 3 | 1 << 2;
        const READ: u32 = 1 << 1;
        if !self.dma {
            return Err(Error::NoDma);
        }
        if offset.checked_add(length).is_none_or(|end| end > file.size) {
            return Err(Error::Range);
        }
        transfer(u32::from(file.select) << 16 | SELECT_SKIP, offset, PhysAddr::zero())?;
        transfer(READ, length, to)
    }

    fn read_item(&self, item: u16, buffer: &mut [u8]) {
        select(item);
        read_data(buffer);
    }
}

/// What the device reads to know what to transfer; big-endian. Aligned so that it stays on one page.
#[repr(C, align(16))]
struct Access {
    control: u32,
    length: u32,
    address: u64,
}

fn transfer(control: u32, length: u32, address: PhysAddr) -> Result<(), Error> {
    const ERROR: u32 = 1;
    let access =
        Access { control: control.to_be(), length: length.to_be(), address: address.as_u64().to_be() };
    let place = translate::virt_to_phys(VirtAddr::from_ptr(&raw const access)).ok_or(Error::Device)?.as_u64();
    fence(Ordering::SeqCst);
    // SAFETY: the device's registers; `access` outlives the transfer, which ends when `control` has no bit but ERROR.
    unsafe {
        Port::<u32>::new(DMA_HIGH).write(((place >> 32) as u32).to_be());
        Port::<u32>::new(DMA_LOW).write((place as u32).to_be());
    }
    loop {
        // SAFETY: our own variable, which the device changes behind the compiler's back.
        let control = u32::from_be(unsafe { (&raw const access.control).read_volatile() });
        match control {
            0 => return Ok(()),
            status if status & ERROR != 0 => return Err(Error::Device),
            _ => core::hint::spin_loop(),
        }
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

//! Packs a directory as an initramfs: a cpio archive of the `newc` kind, as Linux unpacks it.
//!
//! The archive depends on names, modes and contents only: entries are sorted, times are 0, owners are root.

use anyhow::{Context, Result, bail};
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Writes the contents of `directory` as an archive: files, directories, symbolic links, named pipes.
///
/// Fails on sockets, on files of 4 GiB (the format's limit), and when something cannot be read. A device node is kept,
/// with its numbers.
pub fn pack(directory: &Path, out: &mut impl Write) -> Result<()> {
    let mut archive = Archive { out, next_inode: 1 };
    let metadata = fs::metadata(directory)?;
    archive.entry(b".", metadata.mode(), 0, &[])?;
    archive.directory(directory, &mut Vec::new())?;
    archive.entry(b"TRAILER!!!", 0, 0, &[])
}

struct Archive<'a, W> {
    out: &'a mut W,
    next_inode: u32,
}

impl<W: Write> Archive<'_, W> {
    fn directory(&mut self, path: &Path, name: &mut Vec<u8>) -> Result<()> {
        let mut children = fs::read_dir(path)
            .and_then(|children| children.collect::<Result<Vec<_>, _>>())
            .with_context(|| format!("cannot read {}", path.display()))?;
        children.sort_by_key(|child| child.file_name());
        for child in children {
            let length = name.len();
            if !name.is_empty() {
                name.push(b'/');
            }
            name.extend_from_slice(child.file_name().as_bytes());
            self.node(&child.path(), name)
                .with_context(|| format!("cannot pack {}", child.path().display()))?;
            name.truncate(length);
        }
        Ok(())
    }

    fn node(&mut self, path: &Path, name: &mut Vec<u8>) -> Result<()> {
        let metadata = fs::symlink_metadata(path)?;
        let kind = metadata.file_type();
        let content = if kind.is_file() {
            fs::read(path)?
        } else if kind.is_symlink() {
            fs::read_link(path)?.as_os_str().as_bytes().to_vec()
        } else if kind.is_socket() {
            bail!("a socket cannot be packed")
        } else {
            Vec::new()
        };
        let is_device = kind.is_block_device() || kind.is_char_device();
        self.entry(name, metadata.mode(), if is_device { metadata.rdev() } else { 0 }, &content)?;
        if kind.is_dir() { self.directory(path, name) } else { Ok(()) }
    }

    fn entry(&mut self, name: &[u8], mode: u32, rdev: u64, content: &[u8]) -> Result<()> {
        let size = u32::try_from(content.len()).context("the file is too large for the format")?;
        let (major, minor) =
            (((rdev >> 8) & 0xfff) as u32, ((rdev & 0xff) | ((rdev >> 12) & 0xfff00)) as u32);
        let inode = self.next_inode;
        self.next_inode += 1;
        write!(self.out, "070701")?;
        let nr_links = 1;
        for field in [inode, mode, 0, 0, nr_links, 0, size, 0, 0, major, minor, name.len() as u32 + 1, 0] {
            write!(self.out, "{field:08X}")?;
        }
        // The header has 110 bytes; the name with its NUL and the content each end at a multiple of 4.
        self.out.write_all(name)?;
        self.pad(110 + name.len() + 1, 1)?;
        self.out.write_all(content)?;
        self.pad(content.len(), 0)
    }

    fn pad(&mut self, length: usize, nuls: usize) -> Result<()> {
        let zeros = nuls + length.next_multiple_of(4) - length;
        Ok(self.out.write_all(&[0; 4][..zeros])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// A naive reader: name to (mode, content).
    fn unpack(mut archive: &[u8]) -> BTreeMap<String, (u32, Vec<u8>)> {
        let mut files = BTreeMap::new();
        loop {
            assert_eq!(&archive[..6], b"070701");
            let field = |i: usize| {
                let digits = std::str::from_utf8(&archive[6 + 8 * i..14 + 8 * i]).unwrap();
                u32::from_str_radix(digits, 16).unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let name = String::from_utf8(archive[110..110 + name_size - 1].to_vec()).unwrap();
            assert_eq!(archive[110 + name_size - 1], 0);
            let start = (110 + name_size).next_multiple_of(4);
            let content = archive[start..start + size].to_vec();
            archive = &archive[start + size.next_multiple_of(4)..];
            if name == "TRAILER!!!" {
                assert!(archive.is_empty());
                return files;
            }
            assert!(files.insert(name, (mode, content)).is_none());
        }
    }

    #[test]
    fn a_directory_is_packed_with_names_modes_and_contents() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        fs::create_dir(path.join("bin")).unwrap();
        for size in 0..5 {
            fs::write(path.join("bin").join("x".repeat(size + 1)), vec![b'a'; size]).unwrap();
        }
        std::os::unix::fs::symlink("bin/x", path.join("init")).unwrap();
        let mut archive = Vec::new();
        pack(path, &mut archive).unwrap();
        let files = unpack(&archive);
        assert_eq!(
            files.keys().map(String::as_str).collect::<Vec<_>>(),
            [".", "bin", "bin/x", "bin/xx", "bin/xxx", "bin/xxxx", "bin/xxxxx", "init"]
        );
        assert_eq!(files["bin/xxx"].1, b"aa");
        assert_eq!(files["init"], (0o120777, b"bin/x".to_vec()));
        assert_eq!(files["bin"].0 & 0o170000, 0o040000);
    }

    #[test]
    fn a_socket_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
        let error = format!("{:#}", pack(dir.path(), &mut Vec::new()).unwrap_err());
        assert!(error.contains("/s: a socket"), "{error}");
    }
}

//! What the host tells in `/proc` and `/sys`, and whether it gives a ring. Another root than `/`
//! stands for another host.

use std::fs;
use std::path::PathBuf;

/// A host to be looked at.
#[derive(Debug)]
pub(in crate::cli) struct System {
    root: PathBuf,
    /// Why the kernel gives no ring.
    pub(super) ring: Result<(), String>,
}

impl System {
    /// This host.
    pub(in crate::cli) fn this() -> Self {
        let ring = io_uring::IoUring::new(8);
        Self {
            root: PathBuf::from("/"),
            ring: ring.map(drop).map_err(|error| error.to_string()),
        }
    }

    #[cfg(test)]
    pub(super) fn at(root: PathBuf) -> Self {
        Self { root, ring: Ok(()) }
    }

    /// The text of a file, without blanks around it.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.root.join(path)).ok()?;
        Some(text.trim().to_owned())
    }

    /// The number in a file.
    pub(super) fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// A kernel setting by its dotted name.
    pub(super) fn sysctl(&self, name: &str) -> Option<String> {
        self.text(&format!("proc/sys/{}", name.replace('.', "/")))
    }

    /// The names in a directory, in order.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(path)).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        names
    }

    /// Bytes of a field of `/proc/meminfo`.
    pub(super) fn meminfo(&self, field: &str) -> Option<u64> {
        let text = self.text("proc/meminfo")?;
        let line = text.lines().find(|line| line.starts_with(field))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib << 10)
    }
}

//! What the running kernel was built with, where it tells.

use std::{collections::BTreeSet, fs, io::Read, path::Path};

use flate2::read::GzDecoder;

/// The options of the running kernel's build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildConfig {
    /// Those that are built in or built as modules; `None` where no file tells.
    options: Option<BTreeSet<String>>,
}

impl BuildConfig {
    /// Reads `/proc/config.gz`, else the file that distributions put beside the kernel, below `root`.
    pub fn read(root: &Path, release: &str) -> Self {
        let packed = fs::File::open(root.join("proc/config.gz")).ok().and_then(|file| {
            let mut text = String::new();
            GzDecoder::new(file).read_to_string(&mut text).ok().map(|_| text)
        });
        let beside = || {
            [format!("boot/config-{release}"), format!("lib/modules/{release}/config")]
                .iter()
                .find_map(|path| fs::read_to_string(root.join(path)).ok())
        };
        packed.or_else(beside).map_or_else(Self::default, |text| Self::parse(&text))
    }

    /// From the text of such a file.
    pub fn parse(text: &str) -> Self {
        let set = text.lines().filter_map(|line| {
            let (name, value) = line.split_once('=')?;
            matches!(value, "y" | "m").then(|| name.to_owned())
        });
        Self { options: Some(set.collect()) }
    }

    /// Whether an option such as `CONFIG_BPF_SYSCALL` is set; `None` where that cannot be told.
    pub fn has(&self, option: &str) -> Option<bool> {
        self.options.as_ref().map(|options| options.contains(option))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    const TEXT: &str = "# Linux\nCONFIG_BPF_SYSCALL=y\n# CONFIG_KPROBES is not set\nCONFIG_VSOCKETS=m\nCONFIG_HZ=250\n";

    #[test]
    fn packed_in_proc_or_beside_the_kernel() {
        let root = tempfile::tempdir().expect("temporary folder");
        assert_eq!(BuildConfig::read(root.path(), "6.1.0").has("CONFIG_BPF_SYSCALL"), None);
        for folder in ["boot", "proc"] {
            fs::create_dir(root.path().join(folder)).expect("folder");
        }
        fs::write(root.path().join("boot/config-6.1.0"), TEXT).expect("write");
        let beside = BuildConfig::read(root.path(), "6.1.0");
        assert_eq!(BuildConfig::read(root.path(), "6.1.1"), BuildConfig::default());
        for (option, set) in
            [("CONFIG_BPF_SYSCALL", true), ("CONFIG_VSOCKETS", true), ("CONFIG_KPROBES", false), ("CONFIG_HZ", false)]
        {
            assert_eq!(beside.has(option), Some(set), "{option}");
        }
        let file = fs::File::create(root.path().join("proc/config.gz")).expect("file");
        let mut packed = GzEncoder::new(file, Compression::default());
        packed.write_all(b"CONFIG_KPROBES=y\n").expect("write");
        packed.finish().expect("write");
        // What the running kernel says itself goes first.
        assert_eq!(BuildConfig::read(root.path(), "6.1.0").has("CONFIG_KPROBES"), Some(true));
    }
}

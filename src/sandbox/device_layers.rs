//! The device nodes of a running job and its GPUs in /proc, read back ([`security`](super::security)).

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::devices::LISTED;
use super::rootfs::DEVICES as NODES;
use crate::job::Layer;

/// Most names of /dev that are looked at; a job cannot make any.
const MOST_NODES: usize = 1024;

/// One layer that says whether the job has its device nodes and no others. A job that may write its root can put files of
/// its own there, also in the place of a node, and no devices.
pub(super) fn devices(dev: &Path, added: &[String]) -> Layer {
    let mut expected: Vec<String> = NODES.iter().map(|(name, ..)| (*name).to_owned()).collect();
    expected.extend_from_slice(added);
    expected.sort_unstable();
    let name = |entry: io::Result<fs::DirEntry>| {
        let entry = entry?;
        let kind = entry.file_type()?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let node = kind.is_char_device() || kind.is_block_device() || expected.contains(&name);
        Ok(node.then_some(name))
    };
    let found = fs::read_dir(dev)
        .and_then(|entries| entries.take(MOST_NODES).map(name).collect::<io::Result<Vec<Option<String>>>>());
    match found {
        Err(why) => Layer::new("devices", expected.join(" "), why.to_string(), false),
        Ok(found) => {
            let mut seen: Vec<String> = found.into_iter().flatten().collect();
            seen.sort_unstable();
            let kept = seen == expected;
            Layer::new("devices", expected.join(" "), seen.join(" "), kept)
        }
    }
}

/// One layer that says whether a job with GPUs finds only these in /proc; none, where the host has no such files. Jobs without GPUs
/// have the directory above covered, which is a mount like others.
pub(super) fn listed(root: &Path, gpus: &[String]) -> Option<Layer> {
    const NAME: &str = "devices.proc";
    if gpus.is_empty() {
        return None;
    }
    let expected = format!("at most {}", gpus.join(" "));
    let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    match fs::read_dir(root.join(LISTED)) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => None,
        Err(why) => Some(Layer::new(NAME, expected, why.to_string(), false)),
        Ok(entries) => {
            let seen: io::Result<Vec<String>> = entries.take(MOST_NODES).map(name).collect();
            Some(match seen {
                Err(why) => Layer::new(NAME, expected, why.to_string(), false),
                Ok(mut seen) => {
                    seen.sort_unstable();
                    let kept = seen.iter().all(|address| gpus.contains(address));
                    Layer::new(NAME, expected, seen.join(" "), kept)
                }
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Verdict;

    #[test]
    fn gpu_of_another_job_in_proc_breaks_its_layer() {
        let root = tempfile::tempdir().unwrap();
        let own = ["0000:04:00.0".to_owned()];
        let verdict = |own: &[String]| listed(root.path(), own).map(|layer| layer.verdict);
        assert_eq!(verdict(&own), None);
        fs::create_dir_all(root.path().join(LISTED).join(&own[0])).unwrap();
        assert_eq!((verdict(&own), verdict(&[])), (Some(Verdict::Kept), None));
        fs::create_dir(root.path().join(LISTED).join("0000:05:00.0")).unwrap();
        assert_eq!(verdict(&own), Some(Verdict::Broken));
    }
}

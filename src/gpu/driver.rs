//! Files of the driver that programs in a job need: its libraries, by the linker's cache, `nvidia-smi`, and CUDA.
//!
//! They belong to the version of the driver in the kernel, so they are the host's, whatever root a job has. The cache lists them
//! also where they stand outside the usual places and links lead there.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::linker_cache;
use crate::job::{DriverFiles, DriverLibrary};

/// The linker's cache (ld.so(8)).
const CACHE: &str = "/etc/ld.so.cache";
/// Largest cache that is read: some hundred thousand libraries.
const LARGEST: u64 = 64 << 20;
/// Most names of libraries: a driver has about a hundred.
const MOST: usize = 1024;
/// The vendor's program.
const PROGRAM: &str = "nvidia-smi";
/// Directories that have it on hosts where PATH does not lead there.
const PLACES: [&str; 6] = [
    "/usr/bin",
    "/usr/local/bin",
    "/usr/local/nvidia/bin",
    "/opt/nvidia/bin",
    "/opt/bin",
    "/run/nvidia/driver/usr/bin",
];

/// The files to look for.
#[derive(Debug, Clone, Copy)]
pub struct DriverWish<'a> {
    /// Names of libraries, where a star at the end stands for the rest.
    pub libraries: &'a [String],
    /// Directories of CUDA; the first that is there is taken.
    pub cuda_paths: &'a [PathBuf],
    /// Directories of programs, as in the variable PATH.
    pub path: Option<&'a OsStr>,
}

/// The files of the driver on this host, and sentences about those that are not there.
pub fn driver_files(wish: DriverWish<'_>) -> (DriverFiles, Vec<String>) {
    let mut notes = Vec::new();
    let libraries = match cache(Path::new(CACHE)) {
        _ if wish.libraries.is_empty() => Vec::new(),
        Ok(entries) => libraries(&entries, wish.libraries, &mut notes),
        Err(why) => {
            notes.push(format!("jobs with GPUs do not see the libraries of the driver: {CACHE}: {why}"));
            Vec::new()
        }
    };
    let program = program(wish.path, &PLACES);
    if program.is_none() {
        notes.push(format!("jobs with GPUs do not see {PROGRAM}: it is not on the PATH of the daemon"));
    }
    let cuda = wish.cuda_paths.iter().find_map(|path| path.canonicalize().ok().filter(|path| path.is_dir()));
    (DriverFiles { libraries, program, cuda }, notes)
}

fn cache(path: &Path) -> Result<Vec<linker_cache::Entry>, String> {
    let size = fs::metadata(path).map_err(|why| why.to_string())?.len();
    if size > LARGEST {
        return Err(format!("it has more than {LARGEST} bytes"));
    }
    let bytes = fs::read(path).map_err(|why| why.to_string())?;
    linker_cache::parse(&bytes).ok_or_else(|| "it is no cache of glibc; run ldconfig".to_owned())
}

/// The files behind the names that the wish has, each with all its names. The linker takes the first entry of a name.
fn libraries(
    entries: &[linker_cache::Entry],
    wanted: &[String],
    notes: &mut Vec<String>,
) -> Vec<DriverLibrary> {
    let mut first: BTreeMap<&str, &Path> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| wanted.iter().any(|wanted| matches(wanted, &entry.name))) {
        if first.len() < MOST || first.contains_key(entry.name.as_str()) {
            first.entry(&entry.name).or_insert(&entry.path);
        }
    }
    let mut files: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    for (name, path) in first {
        match path.canonicalize() {
            Ok(file) => files.entry(file).or_default().push(name.to_owned()),
            Err(why) => {
                notes.push(format!("jobs with GPUs do not see {}: {why}; run ldconfig", path.display()))
            }
        }
    }
    files.into_iter().map(|(file, names)| DriverLibrary { file, names }).collect()
}

fn matches(wanted: &str, name: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == wanted,
    }
}

fn program(path: Option<&OsStr>, places: &[&str]) -> Option<PathBuf> {
    let on_path = path.into_iter().flat_map(std::env::split_paths).filter(|dir| dir.is_absolute());
    on_path.chain(places.iter().map(PathBuf::from)).find_map(|dir| {
        let file = dir.join(PROGRAM).canonicalize().ok()?;
        let meta = fs::metadata(&file).ok()?;
        (meta.is_file() && meta.permissions().mode() & 0o001 != 0).then_some(file)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::linker_cache::Entry;
    use super::*;

    #[test]
    fn libraries_outside_usual_places_are_found_behind_links() {
        let host = tempfile::tempdir().unwrap();
        let host = host.path().canonicalize().unwrap();
        let (lib, own) = (host.join("lib"), host.join("usr/local/nvidia/lib64"));
        fs::create_dir_all(&lib).unwrap();
        fs::create_dir_all(&own).unwrap();
        for file in ["libcuda.so.580.1", "libnvidia-ml.so.580.1"] {
            fs::write(own.join(file), "").unwrap();
        }
        symlink("libcuda.so.580.1", own.join("libcuda.so.1")).unwrap();
        symlink(own.join("libcuda.so.1"), lib.join("libcuda.so.1")).unwrap();
        symlink(own.join("libnvidia-ml.so.580.1"), lib.join("libnvidia-ml.so.1")).unwrap();
        let entry = |name: &str, dir: &Path| Entry { name: name.into(), path: dir.join(name) };
        let entries = [
            entry("libcuda.so.1", &lib),
            entry("libcuda.so", &lib),
            entry("libcuda.so.1", &own),
            entry("libcuda.so.580.1", &own),
            entry("libnvidia-ml.so.1", &lib),
            entry("libc.so.6", &lib),
        ];
        let mut notes = Vec::new();
        let wanted = ["libcuda.so*".to_owned(), "libnvidia-ml.so.1".to_owned()];
        let found = libraries(&entries, &wanted, &mut notes);
        let expected = [
            DriverLibrary {
                file: own.join("libcuda.so.580.1"),
                names: vec!["libcuda.so.1".into(), "libcuda.so.580.1".into()],
            },
            DriverLibrary {
                file: own.join("libnvidia-ml.so.580.1"),
                names: vec!["libnvidia-ml.so.1".into()],
            },
        ];
        assert_eq!(found, expected);
        assert!(notes.len() == 1 && notes[0].contains("libcuda.so: "), "{notes:?}");
    }

    #[test]
    fn program_is_found_on_the_path_and_then_in_its_places() {
        let host = tempfile::tempdir().unwrap();
        let host = host.path().canonicalize().unwrap();
        for (dir, mode) in [("closed", 0o700), ("own", 0o755)] {
            fs::create_dir(host.join(dir)).unwrap();
            fs::write(host.join(dir).join(PROGRAM), "").unwrap();
            fs::set_permissions(host.join(dir).join(PROGRAM), fs::Permissions::from_mode(mode)).unwrap();
        }
        let place = host.join("own");
        let places = [place.to_str().unwrap()];
        let path = format!("relative:{}/closed", host.display());
        assert_eq!(program(Some(OsStr::new(&path)), &places), Some(place.join(PROGRAM)));
        assert_eq!(program(Some(place.as_os_str()), &[]), Some(place.join(PROGRAM)));
        assert_eq!(program(None, &[]), None);
    }

    #[test]
    fn first_cuda_that_is_there_is_taken_and_lacks_are_noted() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        symlink(&dir, dir.join("cuda")).unwrap();
        let wish =
            DriverWish { libraries: &[], cuda_paths: &[dir.join("none"), dir.join("cuda")], path: None };
        let (found, _) = driver_files(wish);
        assert_eq!((found.cuda, found.libraries), (Some(dir.clone()), Vec::new()));
        fs::write(dir.join("cache"), "text").unwrap();
        assert!(cache(&dir.join("cache")).unwrap_err().contains("ldconfig"));
        assert!(cache(&dir.join("gone")).is_err());
    }
}

//! The shared files of AWS tools, `~/.aws/credentials` and `~/.aws/config`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::environment::Environment;

/// The longest file that is read.
const LONGEST: u64 = 1024 * 1024;

/// The settings of one profile from both files. The credentials file wins where both have a key.
pub(super) fn load(environment: &Environment) -> Result<BTreeMap<String, String>, String> {
    let name = environment
        .get("AWS_PROFILE")
        .or_else(|| environment.get("AWS_DEFAULT_PROFILE"))
        .unwrap_or("default");
    let mut settings = BTreeMap::new();
    let files = [
        (file(environment, "AWS_CONFIG_FILE", "config"), true),
        (file(environment, "AWS_SHARED_CREDENTIALS_FILE", "credentials"), false),
    ];
    for (path, is_config) in files {
        let Some(path) = path else { continue };
        match std::fs::metadata(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(format!("cannot read {}: {e}", path.display())),
            Ok(found) if !found.is_file() || found.len() > LONGEST => {
                return Err(format!("cannot read {}: it is no file of at most 1 MiB", path.display()));
            }
            Ok(_) => {}
        }
        let text =
            std::fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        settings.extend(section(&text, name, is_config));
    }
    Ok(settings)
}

fn file(environment: &Environment, variable: &str, name: &str) -> Option<PathBuf> {
    let below_home = || Some(PathBuf::from(environment.get("HOME")?).join(".aws").join(name));
    environment.get(variable).map(PathBuf::from).or_else(below_home)
}

/// The keys of one section. In the config file a section is `[profile NAME]`, except the default one.
fn section(text: &str, name: &str, is_config: bool) -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    let mut ours = false;
    for line in text.lines() {
        // An indented line belongs to the key above (nested settings such as `s3 =`).
        if line.starts_with([' ', '\t', '#', ';']) {
            continue;
        }
        if let Some(title) = line.trim_end().strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            let title = title.trim();
            let named = title.strip_prefix("profile ").map(str::trim);
            ours = if is_config {
                named == Some(name) || name == "default" && title == name
            } else {
                title == name
            };
        } else if let Some((key, value)) = line.split_once('=').filter(|_| ours) {
            keys.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_section_of_the_profile_is_read_from_both_files() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".aws")).unwrap();
        let credentials = "# mine\n[default]\naws_access_key_id = A\naws_secret_access_key=B=\n[work]\naws_access_key_id=W\n";
        std::fs::write(dir.path().join(".aws/credentials"), credentials).unwrap();
        let config = "[default]\nregion = eu-west-1\ns3 =\n  region = x\n[profile work]\nRegion=us-west-2\n[work]\nregion=no\n";
        std::fs::write(dir.path().join(".aws/config"), config).unwrap();
        let home = dir.path().to_str().unwrap();
        let default = load(&[("HOME", home)].into_iter().collect()).unwrap();
        assert_eq!(default["aws_secret_access_key"], "B=");
        assert_eq!(default["region"], "eu-west-1");
        let work = load(&[("HOME", home), ("AWS_PROFILE", "work")].into_iter().collect()).unwrap();
        assert_eq!((work["aws_access_key_id"].as_str(), work["region"].as_str()), ("W", "us-west-2"));
        assert!(load(&[("HOME", "/nowhere")].into_iter().collect()).unwrap().is_empty());
        let directory = [("AWS_CONFIG_FILE", home)].into_iter().collect();
        assert!(load(&directory).unwrap_err().contains("no file"));
    }

    proptest! {
        #[test]
        fn no_text_ends_the_reader(text in "[\\[\\]= \ta-z#;\n]{0,200}") {
            let _ = (section(&text, "default", true), section(&text, "a", false));
        }
    }
}

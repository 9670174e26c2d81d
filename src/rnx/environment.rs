//! The variables of a job: from the command line, from rnx's own environment, or from files.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};

use super::cli::{Values, value};
use super::error::{Error, Result};

/// The variables that the request carries.
#[derive(Default)]
pub(crate) struct Variables {
    /// By name; the status of the job shows their values.
    pub(crate) plain: HashMap<String, String>,
    /// By name; no reply shows their values.
    pub(crate) secret: HashMap<String, String>,
    /// A secret's value was typed where `ps` shows it.
    pub(crate) secret_on_command_line: bool,
}

/// Reads `--env`, `--secret-env` and `--secret-file`; of the same name the last one of its kind counts.
pub(crate) fn collect(values: &Values, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Variables> {
    let mut all = Variables::default();
    for text in values.all("env") {
        let (name, given) = value::pair("env", &text, false)?;
        let content = given.map_or_else(|| inherited("env", &name, env), Ok)?;
        all.plain.insert(name, content);
    }
    for (flag, text) in values.in_order(&["secret-env", "secret-file"]) {
        let (name, content) = match (flag, value::pair(flag, &text, true)?) {
            ("secret-file", (name, Some(path))) => {
                let content = from_file(&name, &path)?;
                (name, content)
            }
            ("secret-file", (name, None)) => {
                return Err(Error::usage(format!(
                    "--secret-file {name} names no file: --secret-file {name}=FILE"
                )));
            }
            (_, (name, Some(content))) => {
                all.secret_on_command_line = true;
                (name, content)
            }
            (_, (name, None)) => {
                let content = inherited(flag, &name, env)?;
                (name, content)
            }
        };
        all.secret.insert(name, content);
    }
    Ok(all)
}

fn inherited(flag: &str, name: &str, env: &dyn Fn(&str) -> Option<OsString>) -> Result<String> {
    let Some(found) = env(name) else {
        // A secret that was typed where its name belongs is not repeated.
        let shown = if flag == "env" || value::is_usual_name(name) { name } else { "***" };
        let text = format!("--{flag} {shown}: rnx's own environment has no {shown}");
        return Err(Error::usage(text).hint(format!("export it first, or write --{flag} {shown}=VALUE")));
    };
    let content = found.into_string().map_err(|_| {
        Error::usage(format!("--{flag} {name}: the value in rnx's environment is not valid UTF-8"))
    })?;
    value::check_env_value(name, &content)?;
    Ok(content)
}

/// The whole file, less one final newline, which editors and `echo` add and no secret has.
fn from_file(name: &str, path: &str) -> Result<String> {
    let wrong = |why: &str| Error::usage(format!("--secret-file {name}: cannot read {path}: {why}"));
    let mut bytes = Vec::new();
    // One newline and one byte more than allowed: enough to tell that it is too long.
    let limit = value::MAX_ENV_VALUE as u64 + 2;
    let read = if path == "-" {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    read.map_err(|e| wrong(&e.to_string()))?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    let content = String::from_utf8(bytes).map_err(|_| wrong("it is not valid UTF-8"))?;
    value::check_env_value(name, &content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::super::cli::{Parsed, parse};
    use super::*;

    fn read(words: &[&str]) -> Result<Variables> {
        let line = ["job", "run"].iter().chain(words).chain(&["true"]).map(OsString::from).collect();
        let Ok(Parsed::Invoke(i)) = parse(line) else { panic!("{words:?}") };
        collect(&i.values, &|name| (name == "TOKEN").then(|| "from-env".into()))
    }

    fn why(words: &[&str]) -> String {
        read(words).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn values_come_from_the_line_the_environment_and_files() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret\n\n").unwrap();
        let named = format!("F={}", file.path().display());
        let all =
            read(&["-e", "A=1", "-e", "A=2", "-e", "TOKEN", "-s", "TOKEN", "--secret-file", &named]).unwrap();
        assert_eq!(all.plain["A"], "2");
        assert_eq!(all.plain["TOKEN"], "from-env");
        assert_eq!(all.secret["TOKEN"], "from-env");
        assert_eq!(all.secret["F"], "s3cret\n");
        assert!(!all.secret_on_command_line);
        assert!(read(&["-s", "K=v"]).unwrap().secret_on_command_line);
    }

    #[test]
    fn error_names_the_missing_variable_or_file_but_no_value() {
        assert_eq!(why(&["-e", "NOPE"]), "--env NOPE: rnx's own environment has no NOPE");
        assert_eq!(why(&["-s", "NOPE"]), "--secret-env NOPE: rnx's own environment has no NOPE");
        assert!(!why(&["-s", "hunter2-hunter2"]).contains("hunter2"));
        assert_eq!(why(&["--secret-file", "K"]), "--secret-file K names no file: --secret-file K=FILE");
        assert!(why(&["--secret-file", "K=/nowhere/x"]).contains("cannot read /nowhere/x: No such file"));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"hunter2\xff").unwrap();
        let text = why(&["--secret-file", &format!("K={}", file.path().display())]);
        assert!(text.ends_with("it is not valid UTF-8") && !text.contains("hunter2"), "{text}");
        std::fs::write(file.path(), "x".repeat(value::MAX_ENV_VALUE + 1)).unwrap();
        assert!(why(&["--secret-file", &format!("K={}", file.path().display())]).contains("too long"));
    }
}

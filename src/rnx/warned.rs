//! Warnings that a person needs once a day: which limits a server's host cannot enforce. They are the same for every
//! job of that server, and a warning above every output is soon read by nobody. A job's status always has them.
//!
//! One file remembers them, a line for each server: the day, the address, the text. It holds the last [`MOST`] servers;
//! what is older is warned of again. Where the file cannot be read or written, the warning is shown every time.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::terminal::one_line;
use crate::config::search::Environment;

/// Servers that are remembered.
const MOST: usize = 100;
/// Letters of the text that tell two warnings apart.
const TEXT: usize = 500;
/// Above what [`MOST`] lines take.
const MAX_FILE: u64 = 1 << 20;

/// Whether these limits of this server have not been named today. They count as named from then on.
pub(crate) fn is_first_today(env: Environment<'_>, address: &str, limits: &[String]) -> bool {
    let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    file(env).is_none_or(|file| is_first(&file, &today, address, limits).unwrap_or(true))
}

/// `$XDG_STATE_HOME/rnx/warned`, or its usual place below the home directory.
fn file(env: Environment<'_>) -> Option<PathBuf> {
    let given = env("XDG_STATE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let state = given.or_else(|| Some(Path::new(&env("HOME")?).join(".local/state")))?;
    Some(state.join("rnx/warned"))
}

fn is_first(file: &Path, day: &str, address: &str, limits: &[String]) -> io::Result<bool> {
    let mut text = String::new();
    match File::open(file) {
        Ok(open) => drop(open.take(MAX_FILE).read_to_string(&mut text)?),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let limits: String = one_line(&limits.join("; ")).chars().take(TEXT).collect();
    let line = format!("{day} {} {limits}", one_line(address).replace(' ', "_"));
    if text.lines().any(|known| known == line) {
        return Ok(false);
    }
    // The line of the same server for an earlier day, or for other limits, has served.
    let server = |line: &str| line.split(' ').nth(1).map(str::to_owned);
    let mut lines: Vec<&str> = text.lines().filter(|known| server(known) != server(&line)).collect();
    lines.push(&line);
    let kept = &lines[lines.len().saturating_sub(MOST)..];
    replace(file, &(kept.join("\n") + "\n"))?;
    Ok(true)
}

/// Another rnx reads the old file or the new one.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let dir = file.parent().unwrap_or(file);
    DirBuilder::new().recursive(true).create(dir)?;
    let new = dir.join(format!(".warned.{}", std::process::id()));
    let written = File::create(&new).and_then(|mut open| open.write_all(text.as_bytes()));
    let written = written.and_then(|()| fs::rename(&new, file));
    if written.is_err() {
        // Another one with our id would write over it; here it is only in the way.
        let _ = fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_named_once_a_day_and_when_they_change() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("deep/rnx/warned");
        let first = |day: &str, address: &str, limit: &str| {
            is_first(&file, day, address, &[limit.to_owned(), "io".into()]).unwrap()
        };
        assert!(first("2026-11-30", "a:1", "cpu"));
        assert!(!first("2026-11-30", "a:1", "cpu"));
        assert!(first("2026-11-30", "b:1", "cpu"), "another server");
        assert!(!first("2026-11-30", "a:1", "cpu"), "it did not push the first one out");
        assert!(first("2026-11-30", "a:1", "memory"), "another limit");
        assert!(first("2026-12-01", "a:1", "memory"), "another day");
        assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 2, "a line for each server");
        for n in 0..2 * MOST {
            assert!(first("2026-12-01", &format!("s{n}:1"), "cpu\nlong \x1b[31m"));
        }
        assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), MOST);
    }

    #[test]
    fn without_a_place_to_remember_it_the_warning_comes_every_time() {
        let limits = ["cpu".to_owned()];
        assert!(is_first_today(&|_| None, "a:1", &limits));
        for _ in 0..2 {
            assert!(is_first_today(&|_| Some("/proc/nowhere".into()), "a:1", &limits));
        }
    }

    #[test]
    fn state_directory_of_the_user_is_taken_if_it_is_absolute() {
        let env = |state: &'static str| {
            move |name: &str| Some(if name == "HOME" { "/home/ann" } else { state }.into())
        };
        assert_eq!(file(&env("/state")).unwrap(), Path::new("/state/rnx/warned"));
        assert_eq!(file(&env("state")).unwrap(), Path::new("/home/ann/.local/state/rnx/warned"));
        assert_eq!(file(&|_| None), None);
    }
}

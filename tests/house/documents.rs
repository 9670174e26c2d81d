//! Rules about the documents: what a user can type, call or configure is written down, and a promise names its test.

use std::fs;
use std::path::{Path, PathBuf};

fn read(relative: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(relative);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn all_sources(dir: &Path, found: &mut String) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path: PathBuf = entry.path();
        if path.is_dir() {
            all_sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push_str(&fs::read_to_string(&path).expect("sources are UTF-8"));
        }
    }
}

/// The last cell of each row of the first table behind a heading must name tests that exist, or say *pending*.
fn proofs_exist(document: &str, heading: &str) {
    let mut code = String::new();
    for dir in ["src", "tests", "benches"] {
        all_sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(dir), &mut code);
    }
    let text = read(document);
    let table = text.split(heading).nth(1).unwrap_or_else(|| panic!("{document} has no {heading}"));
    let rows: Vec<&str> = table
        .lines()
        .skip_while(|l| !l.starts_with("|--"))
        .skip(1)
        .take_while(|l| l.starts_with('|'))
        .collect();
    assert!(rows.len() > 5, "the table behind {heading} has rows");
    for row in rows {
        let proof = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        if proof.contains("*pending*") {
            continue;
        }
        let tests: Vec<&str> = proof.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "names no test and does not say pending: {row}");
        for test in tests {
            let name = test.rsplit("::").next().unwrap_or(test);
            // A function, or an entry of the list from which the VM tier makes its functions.
            let exists = code.contains(&format!("fn {name}(")) || code.contains(&format!("\n    {name}\n"));
            assert!(exists, "no test {test}, named by: {row}");
        }
    }
}

#[test]
fn every_promise_names_a_test_that_exists_or_says_pending() {
    proofs_exist("README.md", "## Promises");
}

#[test]
fn every_known_escape_names_the_test_that_tries_it() {
    proofs_exist("tests/README.md", "## Villains");
}

#[test]
fn every_case_names_the_test_that_tries_it() {
    for heading in ["## Limits", "## Output", "## Client"] {
        proofs_exist("tests/README.md", heading);
    }
}

#[test]
fn every_dependency_says_what_it_saves() {
    let manifest = read("Cargo.toml");
    let mut section = "";
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]")
            && line.contains('=')
            && !line.trim_start().starts_with('#')
        {
            assert!(line.contains(" # "), "a sentence is missing: {line}");
        }
    }
}

/// The dotted names of everything in a YAML tree that is not itself a section.
fn keys(tree: &serde_yaml::Value, above: &str, found: &mut Vec<String>) {
    let Some(section) = tree.as_mapping().filter(|m| !m.is_empty()) else {
        found.push(above.to_owned());
        return;
    };
    for (name, below) in section {
        let name = name.as_str().expect("keys are words");
        keys(below, &if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") }, found);
    }
}

#[test]
fn reference_configuration_has_exactly_the_keys_of_the_daemon() {
    let sorted = |text: &str| {
        let mut found = Vec::new();
        keys(&serde_yaml::from_str(text).expect("YAML"), "", &mut found);
        found.sort();
        found
    };
    let effective = joblet::config::daemon::DaemonConfig::default().effective();
    assert_eq!(sorted(&read("vendor-config/joblet-config.yml")), sorted(&effective));
}

#[test]
fn the_readme_names_every_call_of_the_api() {
    let readme = read("README.md");
    let missing: Vec<_> = read("protos/joblet.proto")
        .lines()
        .filter_map(|l| l.trim().strip_prefix("rpc ")?.split('(').next().map(str::to_owned))
        .filter(|name| !readme.contains(&format!("`{name}`")))
        .collect();
    assert_eq!(missing, Vec::<String>::new());
}

/// The words that begin with two dashes in what a program prints as its help.
fn flags_in_help(program: &str, args: &[&str]) -> Vec<String> {
    let out = std::process::Command::new(program).args(args).env_clear().output().expect("our own program");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    words.filter(|w| w.len() > 2 && w.starts_with("--")).map(str::to_owned).collect()
}

#[test]
fn the_readme_names_every_flag() {
    let readme = read("README.md");
    let rnx = env!("CARGO_BIN_EXE_rnx");
    let mut flags = Vec::new();
    for command in
        ["run", "status", "list", "log", "metrics", "wait", "cancel", "stop", "delete", "delete-all"]
    {
        flags.extend(flags_in_help(rnx, &["help", "job", command]));
    }
    for args in [&["--help"][..], &["setup", "--help"], &["certs", "--help"]] {
        flags.extend(flags_in_help(env!("CARGO_BIN_EXE_joblet"), args));
    }
    assert!(flags.len() > 20, "help shows flags: {flags:?}");
    flags.retain(|flag| !readme.contains(flag));
    assert_eq!(flags, Vec::<String>::new());
}

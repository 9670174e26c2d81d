//! Rules about the documents: every flag, key and call is written down, a promise names its test, and links lead
//! somewhere.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Pages outside of `docs/`.
const OTHER_PAGES: [&str; 3] = ["README.md", "tests/README.md", "benches/README.md"];

const README_LINES: usize = 250;
const README_COLUMNS: usize = 120;

fn repository() -> &'static Path {
    Path::new(".")
}

fn read(relative: impl AsRef<Path>) -> String {
    let path = repository().join(relative);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The files of a directory of the repository with this extension, as relative paths, sorted.
fn files(dir: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(repository().join(dir)).unwrap_or_else(|e| panic!("{dir}: {e}"));
    let names = entries.map(|entry| Path::new(dir).join(entry.expect("an entry").file_name()));
    let mut found: Vec<_> = names.filter(|name| name.extension().is_some_and(|e| e == extension)).collect();
    found.sort();
    assert!(!found.is_empty(), "{dir} has no .{extension}");
    found
}

/// Every page, with its text.
fn pages() -> Vec<(PathBuf, String)> {
    let others = OTHER_PAGES.iter().map(PathBuf::from);
    others.chain(files("docs", "md")).map(|page| (page.clone(), read(page))).collect()
}

/// The pages for users: the README and `docs/`.
fn documents() -> String {
    let pages = [PathBuf::from("README.md")].into_iter().chain(files("docs", "md"));
    pages.map(|page| read(page) + "\n").collect()
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
        all_sources(&repository().join(dir), &mut code);
    }
    let text = read(document);
    let heading = format!("\n{heading}\n");
    let table = text.split(&heading).nth(1).unwrap_or_else(|| panic!("{document} has no {heading}"));
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
    proofs_exist("docs/promises.md", "## Promises");
}

#[test]
fn every_known_escape_names_the_test_that_tries_it() {
    proofs_exist("docs/security.md", "## Known escapes");
}

#[test]
fn every_case_names_the_test_that_tries_it() {
    for heading in
        ["## Limits", "## Output", "## Facts about persistence", "## Faults and races", "## Client"]
    {
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

#[test]
fn readme_fits_250_lines_of_120_columns() {
    let readme = read("README.md");
    let lines = readme.lines().count();
    assert!(lines <= README_LINES, "README.md has {lines} lines, at most {README_LINES} are allowed");
    let wide: Vec<_> = readme.lines().filter(|line| line.chars().count() > README_COLUMNS).collect();
    assert_eq!(wide, Vec::<&str>::new());
}

#[test]
fn every_page_of_docs_is_in_the_index() {
    let index = links(&read("docs/README.md"));
    let missing: Vec<_> = files("docs", "md")
        .into_iter()
        .filter_map(|page| page.file_name()?.to_str().map(str::to_owned))
        .filter(|name| name != "README.md" && !index.contains(name))
        .collect();
    assert_eq!(missing, Vec::<String>::new());
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

fn sorted_keys(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    keys(&serde_yaml::from_str(text).expect("YAML"), "", &mut found);
    found.sort();
    found
}

/// The keys of the daemon's configuration, as the program itself prints them.
fn keys_of_the_daemon() -> Vec<String> {
    sorted_keys(&joblet::config::daemon::DaemonConfig::default().effective())
}

#[test]
fn reference_configuration_has_exactly_the_keys_of_the_daemon() {
    assert_eq!(sorted_keys(&read("vendor-config/joblet-config.yml")), keys_of_the_daemon());
}

/// These names, less the ones that a text has between backticks.
fn not_quoted(names: Vec<String>, text: &str) -> Vec<String> {
    names.into_iter().filter(|name| !text.contains(&format!("`{name}`"))).collect()
}

#[test]
fn every_key_of_the_daemon_is_in_the_reference_page() {
    let page = read("docs/configuration.md");
    assert_eq!(not_quoted(keys_of_the_daemon(), &page), Vec::<String>::new());
}

// A test of the configuration room keeps the client's reference file complete.
#[test]
fn every_key_of_the_client_is_in_the_reference_page() {
    let page = read("docs/configuration.md");
    let keys = sorted_keys(&read("vendor-config/rnx-config.yml"));
    assert!(keys.len() > 4, "{keys:?}");
    let keys = keys.iter().map(|key| key.replace("nodes.default.", "nodes.NAME.")).collect();
    assert_eq!(not_quoted(keys, &page), Vec::<String>::new());
}

#[test]
fn every_call_of_the_contracts_is_in_the_documents() {
    let mut calls = Vec::new();
    for proto in files("protos", "proto") {
        let text = read(proto);
        let names = text.lines().filter_map(|l| l.trim().strip_prefix("rpc ")?.split('(').next());
        calls.extend(names.map(|name| name.trim().to_owned()));
    }
    assert!(calls.len() > 30, "the contracts have calls: {calls:?}");
    assert_eq!(not_quoted(calls, &documents()), Vec::<String>::new());
}

/// The words of a text that begin with two dashes and a letter.
fn flags(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let is_flag = |word: &&str| {
        word.strip_prefix("--").is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()))
    };
    words.filter(is_flag).map(str::to_owned).collect()
}

/// The help that a program prints.
fn help(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).env_clear().output().expect("our own program");
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// The commands that `rnx help` lists: `job run`, `nodes` and so on.
fn commands_of_rnx(overview: &str) -> Vec<Vec<&str>> {
    let list = overview.split("\nCommands:\n").nth(1).unwrap_or_default();
    let lines = list.lines().take_while(|line| line.starts_with("  "));
    let names = lines.filter_map(|line| line.trim_start().split("  ").next());
    names.map(|name| name.split(' ').collect()).collect()
}

#[test]
fn every_flag_of_the_help_is_in_the_documents() {
    let (rnx, joblet) = (env!("CARGO_BIN_EXE_rnx"), env!("CARGO_BIN_EXE_joblet"));
    let overview = help(rnx, &["help"]);
    let commands = commands_of_rnx(&overview);
    for needed in
        ["run", "status", "list", "log", "metrics", "wait", "cancel", "stop", "delete", "delete-all"]
    {
        assert!(commands.contains(&vec!["job", needed]), "rnx help does not list job {needed}: {overview}");
    }
    let mut shown = flags(&overview);
    for command in &commands {
        let words: Vec<&str> = ["help"].iter().chain(command).copied().collect();
        shown.extend(flags(&help(rnx, &words)));
    }
    for command in [&[][..], &["setup"], &["certs"], &["doctor"], &["recover"]] {
        let words: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
        shown.extend(flags(&help(joblet, &words)));
    }
    assert!(shown.len() > 40, "help shows flags: {shown:?}");
    let written = flags(&documents());
    let missing: Vec<_> = shown.difference(&written).collect();
    assert_eq!(missing, Vec::<&String>::new());
}

/// A page without its fenced code blocks.
fn without_blocks(text: &str) -> String {
    let mut in_block = false;
    let mut out = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            out.push_str(line);
        }
        out.push('\n');
    }
    out
}

/// Where the next run of exactly so many backticks begins.
fn closing(text: &str, ticks: usize) -> Option<usize> {
    let mut at = 0;
    while let Some(found) = text[at..].find('`') {
        let start = at + found;
        let run = text[start..].bytes().take_while(|b| *b == b'`').count();
        if run == ticks {
            return Some(start);
        }
        at = start + run;
    }
    None
}

/// A paragraph without the code between backticks.
fn without_spans(paragraph: &str) -> String {
    let mut out = String::new();
    let mut rest = paragraph;
    while let Some(start) = rest.find('`') {
        let ticks = rest[start..].bytes().take_while(|b| *b == b'`').count();
        let (before, after) = (&rest[..start], &rest[start + ticks..]);
        out.push_str(before);
        rest = closing(after, ticks).map_or(after, |end| &after[end + ticks..]);
    }
    out + rest
}

/// The targets of the links and images of a page, code left out.
fn links(text: &str) -> Vec<String> {
    let text: String =
        without_blocks(text).split("\n\n").map(|paragraph| without_spans(paragraph) + "\n\n").collect();
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter_map(|target| target.split_whitespace().next()).map(str::to_owned).collect()
}

/// The anchors that GitHub gives the headings of a page.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut found = BTreeSet::new();
    for line in without_blocks(text).lines() {
        let title = line.trim_start_matches('#');
        if !(1..=6).contains(&(line.len() - title.len())) || !title.starts_with(' ') {
            continue;
        }
        let kept = title.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let anchor = kept.collect::<String>().to_lowercase().replace(' ', "-");
        let count = seen.entry(anchor.clone()).or_default();
        found.insert(if *count == 0 { anchor } else { format!("{anchor}-{count}") });
        *count += 1;
    }
    found
}

/// Why a link of a page leads nowhere.
fn broken(page: &Path, text: &str, target: &str) -> Option<String> {
    if ["https://", "http://", "mailto:"].iter().any(|scheme| target.starts_with(scheme)) {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let beside = page.parent().unwrap_or(Path::new(""));
    let file = if path.is_empty() { page.to_owned() } else { beside.join(path) };
    if !repository().join(&file).exists() {
        return Some(format!("{}: {target}: no such file", page.display()));
    }
    if anchor.is_empty() {
        return None;
    }
    let there = if path.is_empty() { text.to_owned() } else { read(&file) };
    (!anchors(&there).contains(anchor)).then(|| format!("{}: {target}: no such heading", page.display()))
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut looked_at = 0;
    for (page, text) in pages() {
        for target in links(&text) {
            looked_at += 1;
            wrong.extend(broken(&page, &text, &target));
        }
    }
    assert!(looked_at > 30, "the pages have links: {looked_at}");
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn links_in_code_are_not_links() {
    let page = "[a](x.md) `[b](y.md)` ``[`](z.md)`` ![c](d.svg \"title\")\n\n```sh\n[e](f.md)\n```\n`open\n\n[g](#h)\n";
    assert_eq!(links(page), ["x.md", "d.svg", "#h"]);
}

#[test]
fn anchors_are_those_of_github() {
    let page = "# A page\n## The daemon's `file`\n### /work\n## Twice\n## Twice\n#none\n```\n# code\n```\n####### seven\n";
    let expected = ["a-page", "the-daemons-file", "twice", "twice-1", "work"];
    assert_eq!(anchors(page).iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn links_that_lead_nowhere_are_found() {
    let page = Path::new("docs/README.md");
    let text = "# Here\n";
    for good in ["../README.md", "install.md#build", "#here", "https://example.org/x#y", "../benches"] {
        assert_eq!(broken(page, text, good), None);
    }
    for bad in ["none.md", "install.md#none", "#none", "README.md/x"] {
        assert!(broken(page, text, bad).is_some(), "{bad}");
    }
}

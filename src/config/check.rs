//! Warnings about keys that nothing reads. The known keys are the paths of a serialised default; `*` stands for
//! any name.

use serde_yaml::Value;

/// One sentence for each key of `given` that is not in `known`, in the order of the file. A path of
/// `without_effect` gets the warning that it is known but has no effect.
pub(super) fn unread_keys(given: &Value, known: &Value, without_effect: &[&str]) -> Vec<String> {
    let mut warnings = Vec::new();
    walk(given, known, known, without_effect, "", &mut warnings);
    warnings
}

/// All paths of a tree, such as "server" and "server.port".
pub(super) fn paths(tree: &Value) -> Vec<String> {
    let mut all = Vec::new();
    collect(tree, "", &mut all);
    all
}

fn collect(tree: &Value, at: &str, all: &mut Vec<String>) {
    for (key, value) in tree.as_mapping().into_iter().flatten() {
        let path = join(at, &name(key));
        collect(value, &path, all);
        all.push(path);
    }
}

fn walk(
    given: &Value,
    known: &Value,
    root: &Value,
    without_effect: &[&str],
    at: &str,
    out: &mut Vec<String>,
) {
    for (key, value) in given.as_mapping().into_iter().flatten() {
        let key = name(key);
        let path = join(at, &key);
        if without_effect.contains(&path.as_str()) {
            out.push(format!("{path} has no effect in this version of joblet"));
        } else if let Some(below) = known.get(&key).or_else(|| known.get("*")) {
            walk(value, below, root, without_effect, &path, out);
        } else {
            out.push(match suggestion(&key, at, known, root) {
                Some(better) => format!("unknown key {path} is ignored; did you mean {better}?"),
                None => format!("unknown key {path} is ignored"),
            });
        }
    }
}

/// The same key in another spelling, here or in another section, else one of this section that is much alike.
fn suggestion(key: &str, at: &str, known: &Value, root: &Value) -> Option<String> {
    let plain = |s: &str| s.to_lowercase().replace(['_', '-'], "");
    let wanted = plain(key);
    let near = known
        .as_mapping()
        .into_iter()
        .flatten()
        .map(|(k, _)| name(k))
        .filter(|k| k != "*")
        .map(|k| (distance(&wanted, &plain(&k)), k))
        .filter(|(d, k)| *d <= 2 && *d <= k.len() / 2)
        .min();
    let elsewhere =
        || paths(root).into_iter().find(|p| p.rsplit('.').next().is_some_and(|k| plain(k) == wanted));
    match near {
        Some((0, k)) => Some(join(at, &k)),
        near => elsewhere().or_else(|| near.map(|(_, k)| join(at, &k))),
    }
}

fn join(at: &str, key: &str) -> String {
    if at.is_empty() { key.into() } else { format!("{at}.{key}") }
}

/// A key as text, safe to print: YAML also takes numbers, truth values and whole mappings as keys.
fn name(key: &Value) -> String {
    match key {
        Value::String(s) => s.chars().take(80).collect::<String>().escape_debug().to_string(),
        Value::Number(n) => n.to_string(),
        Value::Bool(b) => b.to_string(),
        _ => "?".into(),
    }
}

/// Insertions, deletions and replacements between two texts (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replace = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warn(given: &str) -> Vec<String> {
        let known =
            "server: {port: 1, nodeId: x}\njoblet: {maxConcurrentJobs: 1}\nnodes: {'*': {address: x}}";
        unread_keys(
            &serde_yaml::from_str(given).unwrap(),
            &serde_yaml::from_str(known).unwrap(),
            &["state", "joblet.spoolLimit"],
        )
    }

    #[test]
    fn unknown_keys_warn_with_the_nearest_and_known_keys_are_silent() {
        assert!(warn("server: {port: 5}\nnodes: {alpha: {address: y}}").is_empty());
        assert_eq!(
            warn("server: {prot: 5, colour: red}\njoblet: {max_concurrent_jobs: 3}\nnodes: {a: {adress: y}}"),
            [
                "unknown key server.prot is ignored; did you mean server.port?",
                "unknown key server.colour is ignored",
                "unknown key joblet.max_concurrent_jobs is ignored; did you mean joblet.maxConcurrentJobs?",
                "unknown key nodes.a.adress is ignored; did you mean nodes.a.address?",
            ]
        );
    }

    #[test]
    fn a_key_of_another_section_is_found_there() {
        assert_eq!(warn("nodeId: x"), ["unknown key nodeId is ignored; did you mean server.nodeId?"]);
    }

    #[test]
    fn keys_of_features_not_built_are_named_once() {
        assert_eq!(
            warn("state: {backend: memory, pool: 3}\njoblet: {spoolLimit: 1G}"),
            [
                "state has no effect in this version of joblet",
                "joblet.spoolLimit has no effect in this version of joblet"
            ]
        );
    }

    #[test]
    fn odd_keys_and_shapes_are_reported_and_harm_nothing() {
        assert_eq!(
            warn("5: x\n\"a\\e[31m\": y"),
            ["unknown key 5 is ignored", "unknown key a\\u{1b}[31m is ignored"]
        );
        assert!(warn("[1, 2]").is_empty());
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}

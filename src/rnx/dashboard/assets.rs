//! The files of the pages, inside the binary: nothing is fetched from anywhere.

/// Every file: its name, its type and its content.
macro_rules! files {
    ($($name:literal)*) => {
        &[$(($name, include_bytes!(concat!("assets/", $name)))),*]
    };
}

static FILES: &[(&str, &[u8])] = files! {
    "index.html" "style.css" "app.js" "net.js" "dom.js" "words.js" "rows.js" "jobs.js" "run.js" "job.js" "log.js"
    "lines.js" "ansi.js" "chart.js" "workflows.js" "node.js" "lists.js" "icon.svg"
};

/// The type and the content of a file.
pub(super) fn find(name: &str) -> Option<(&'static str, &'static [u8])> {
    let (name, content) = FILES.iter().find(|(found, _)| *found == name)?;
    let kind = match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/javascript; charset=utf-8",
    };
    Some((kind, content))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> impl Iterator<Item = (&'static str, &'static str)> {
        FILES.iter().map(|(name, content)| (*name, std::str::from_utf8(content).unwrap()))
    }

    #[test]
    fn pages_have_no_code_inside_and_name_no_other_host() {
        for (name, text) in texts() {
            for word in [" on", " style="] {
                let inline = text.match_indices(word).any(|(at, _)| {
                    let rest = &text[at + word.len()..];
                    let letters = rest.trim_start_matches(|c: char| c.is_ascii_lowercase());
                    name.ends_with(".html") && (word == " style=" || letters.starts_with("=\""))
                });
                assert!(!inline, "{name} has {word}");
            }
            let hosts = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!hosts.contains("http://") && !hosts.contains("https://"), "{name} names a host");
            assert!(text.lines().count() <= 600, "{name} is too long");
        }
    }

    #[test]
    fn scripts_put_texts_in_as_text_only() {
        for (name, text) in texts().filter(|(name, _)| name.ends_with(".js")) {
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "srcdoc",
            ] {
                assert!(!text.contains(word), "{name} has {word}");
            }
        }
    }

    #[test]
    fn every_import_of_a_script_is_a_file() {
        for (name, text) in texts().filter(|(name, _)| name.ends_with(".js")) {
            for line in text.lines().filter(|line| line.starts_with("import ") || line.starts_with("} from "))
            {
                let file = line.split("\"./").nth(1).and_then(|rest| rest.split('"').next());
                assert!(file.is_some_and(|file| find(file).is_some()), "{name}: {line}");
            }
        }
    }
}

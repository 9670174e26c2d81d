//! A recipe: the YAML text from which a runtime is built. Every key is read or refused.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::description::{Base, Description, Mount, Requirements};
use super::error::RuntimeError;
use crate::job::runtime::{RuntimeId, RuntimeName, Version};
use crate::job::{env, units};

/// Longest text in bytes.
const MAX_RECIPE: usize = 256 << 10;
/// The schema that is understood.
const SCHEMA: &str = "1.0";
/// Longest description in characters.
const LONGEST_DESCRIPTION: usize = 256;
/// Most packages, options or other entries of a list, and most bytes of each.
const MOST: (usize, usize) = (1024, 1024);
/// Most bytes of one hook.
const LONGEST_HOOK: usize = 64 << 10;
/// Most variables of one recipe.
const MOST_VARIABLES: usize = 250;
/// The time of a hook that names none.
const HOOK_TIME: Duration = Duration::from_secs(20 * 60);
/// Where the files of the runtime are in its jobs, and while it is built.
pub const RECIPE_PLACE: &str = "/opt/runtime";
/// The directory beside `runtime.yml` that is shown there.
pub const RECIPE_FILES: &str = "files";

/// A recipe, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// The name and version of the runtime.
    pub id: RuntimeId,
    /// A sentence for people; may be empty.
    pub description: String,
    /// The language of its programs, which the host has or a hook brings.
    pub language: Language,
    /// The version of the language, or its beginning; empty: any.
    pub language_version: String,
    /// Packages for pip, as in a requirements file.
    pub pip: Vec<String>,
    /// Words for pip.
    pub pip_options: Vec<String>,
    /// Packages for npm.
    pub npm: Vec<String>,
    /// Words for npm.
    pub npm_options: Vec<String>,
    /// Variables of the runtime's jobs.
    pub environment: BTreeMap<String, String>,
    /// Whether its programs want a GPU.
    pub gpu: bool,
    /// Bytes of memory that the host must have; 0: any.
    pub min_memory: u64,
    /// Platforms for which it can be built, such as `ubuntu-amd64`; empty: all.
    pub platforms: Vec<String>,
    /// Libraries in it, for people.
    pub libraries: Vec<String>,
    /// The longest run of each hook.
    pub hook_time: Duration,
    /// A script that runs before anything else; may be empty.
    pub pre_install: String,
    /// A script that runs when all packages are there; may be empty.
    pub post_install: String,
}

/// The languages of recipes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// With a virtual environment of its own.
    Python,
    /// The host's java, or that of a hook.
    Java,
    /// With packages of npm.
    Node,
    /// The host's go, or that of a hook.
    Go,
    /// The host's rustc, or that of a hook.
    Rust,
}

impl Language {
    /// The word in recipes and in `runtime.yml`.
    pub fn as_str(self) -> &'static str {
        match self {
            Language::Python => "python",
            Language::Java => "java",
            Language::Node => "node",
            Language::Go => "go",
            Language::Rust => "rust",
        }
    }
}

/// The keys, as they are written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    #[serde(default)]
    schema_version: Option<String>,
    name: RuntimeName,
    version: Version,
    #[serde(default)]
    description: String,
    base: BaseKeys,
    #[serde(default)]
    pip: Vec<String>,
    #[serde(default, deserialize_with = "words")]
    pip_options: Vec<String>,
    #[serde(default)]
    npm: Vec<String>,
    #[serde(default, deserialize_with = "words")]
    npm_options: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    requirements: RequirementKeys,
    #[serde(default)]
    platforms: Vec<String>,
    #[serde(default)]
    libraries: Vec<String>,
    #[serde(default)]
    hooks: HookKeys,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BaseKeys {
    language: Language,
    #[serde(default)]
    version: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RequirementKeys {
    #[serde(default)]
    gpu: bool,
    #[serde(default)]
    cuda_version: String,
    #[serde(default)]
    min_memory: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HookKeys {
    #[serde(default)]
    timeout: String,
    #[serde(default)]
    pre_install: String,
    #[serde(default)]
    post_install: String,
}

/// One text or a list of texts, each of words with blanks between them.
fn words<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a text, or a list of texts")]
    enum Texts {
        One(String),
        Many(Vec<String>),
    }
    let texts = match Texts::deserialize(from)? {
        Texts::One(text) => vec![text],
        Texts::Many(texts) => texts,
    };
    Ok(texts.iter().flat_map(|text| text.split_whitespace()).map(str::to_owned).collect())
}

impl Recipe {
    /// Reads and checks a text.
    ///
    /// # Errors
    /// No YAML, a key that is not known, with its line and the keys that are, or a value that breaks its rule.
    pub fn parse(text: &str) -> Result<Recipe, RuntimeError> {
        let wrong = |why: String| RuntimeError::Description { path: Path::new("recipe").to_owned(), why };
        if text.len() > MAX_RECIPE {
            return Err(wrong(format!("it has more than {} KiB", MAX_RECIPE >> 10)));
        }
        let keys: Keys = serde_yaml::from_str(text).map_err(|why| wrong(why.to_string()))?;
        keys.checked().map_err(wrong)
    }

    /// The `runtime.yml` of the result.
    pub fn to_description(&self) -> Description {
        let mut environment = self.environment.clone();
        let mut path = vec![format!("{RECIPE_PLACE}/bin")];
        let mut given = |name: &str, value: String| {
            environment.entry(name.to_owned()).or_insert(value);
        };
        match self.language {
            Language::Python => {
                path.insert(0, format!("{RECIPE_PLACE}/venv/bin"));
                given("VIRTUAL_ENV", format!("{RECIPE_PLACE}/venv"));
            }
            Language::Node => {
                path.insert(0, format!("{RECIPE_PLACE}/npm/bin"));
                given("NODE_PATH", format!("{RECIPE_PLACE}/npm/lib/node_modules"));
            }
            Language::Java | Language::Go | Language::Rust => {}
        }
        let path = path.join(":");
        environment
            .entry("PATH_PREPEND".to_owned())
            .and_modify(|own| *own = format!("{own}:{path}"))
            .or_insert(path);
        let architectures = vec![std::env::consts::ARCH.to_owned()];
        Description {
            name: self.id.name.clone(),
            version: self.id.version.clone(),
            description: self.description.clone(),
            language: self.language.as_str().to_owned(),
            language_version: self.language_version.clone(),
            base: Base::Host,
            mounts: vec![Mount { source: RECIPE_FILES.into(), target: RECIPE_PLACE.into(), read_only: true }],
            layers: Vec::new(),
            environment,
            requirements: Requirements { architectures, gpu: self.gpu },
            packages: self.pip.iter().chain(&self.npm).cloned().collect(),
            libraries: self.libraries.clone(),
            image: None,
        }
    }
}

impl Keys {
    /// Every rule that YAML's types do not express.
    fn checked(self) -> Result<Recipe, String> {
        let Keys { base, requirements, hooks, .. } = &self;
        if let Some(other) = self.schema_version.as_ref().filter(|schema| *schema != SCHEMA) {
            return Err(format!("schema_version: {} is not \"{SCHEMA}\", the only one", cut(other)));
        }
        let is_line = |text: &str| !text.chars().any(char::is_control);
        if self.description.chars().count() > LONGEST_DESCRIPTION || !is_line(&self.description) {
            return Err(format!("description: it is one line of at most {LONGEST_DESCRIPTION} characters"));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || ".+-_".contains(c);
        for (key, text) in
            [("base.version", &base.version), ("requirements.cuda_version", &requirements.cuda_version)]
        {
            if text.len() > 64 || !text.chars().all(plain) {
                return Err(format!("{key}: \"{}\" is no version", cut(text)));
            }
        }
        self.check_packages()?;
        check_list("platforms", &self.platforms)?;
        check_list("libraries", &self.libraries)?;
        if self.environment.len() > MOST_VARIABLES {
            return Err(format!("environment: more than {MOST_VARIABLES} variables"));
        }
        for (name, value) in &self.environment {
            env::check(name, value).map_err(|why| format!("environment: {why}"))?;
        }
        for (key, script) in [("pre_install", &hooks.pre_install), ("post_install", &hooks.post_install)] {
            if script.len() > LONGEST_HOOK || script.contains('\0') {
                return Err(format!("hooks.{key}: it has more than {} KiB, or a NUL", LONGEST_HOOK >> 10));
            }
        }
        let min_memory = match requirements.min_memory.as_str() {
            "" => 0,
            text => units::parse_size(text).map_err(|why| format!("requirements.min_memory: {why}"))?,
        };
        let hook_time = match hooks.timeout.as_str() {
            "" => HOOK_TIME,
            text => units::parse_duration(text).map_err(|why| format!("hooks.timeout: {why}"))?,
        };
        if hook_time < Duration::from_secs(1) {
            return Err("hooks.timeout: it is below 1s".to_owned());
        }
        let cuda = Some(format!("cuda {}", requirements.cuda_version));
        let cuda = cuda.filter(|_| !requirements.cuda_version.is_empty());
        Ok(Recipe {
            id: RuntimeId { name: self.name, version: self.version },
            description: self.description,
            language: self.base.language,
            language_version: self.base.version,
            pip: self.pip,
            pip_options: self.pip_options,
            npm: self.npm,
            npm_options: self.npm_options,
            environment: self.environment,
            gpu: self.requirements.gpu,
            min_memory,
            platforms: self.platforms,
            libraries: self.libraries.into_iter().chain(cuda).collect(),
            hook_time,
            pre_install: self.hooks.pre_install,
            post_install: self.hooks.post_install,
        })
    }

    /// The packages, which go with their language alone.
    fn check_packages(&self) -> Result<(), String> {
        for (key, packages, options, language) in [
            ("pip", &self.pip, &self.pip_options, Language::Python),
            ("npm", &self.npm, &self.npm_options, Language::Node),
        ] {
            if self.base.language != language && !(packages.is_empty() && options.is_empty()) {
                return Err(format!("{key}: it needs base.language: {}", language.as_str()));
            }
            if let Some(bad) =
                packages.iter().find(|one| one.trim().is_empty() || one.trim_start().starts_with('-'))
            {
                return Err(format!("{key}: \"{}\" is no package; options go into {key}_options", cut(bad)));
            }
            check_list(key, packages)?;
            check_list(&format!("{key}_options"), options)?;
        }
        Ok(())
    }
}

fn check_list(key: &str, list: &[String]) -> Result<(), String> {
    let bad = |one: &&String| one.len() > MOST.1 || one.chars().any(char::is_control);
    match list.iter().find(bad) {
        Some(bad) => Err(format!("{key}: \"{}\" is no line of at most {} bytes", cut(bad), MOST.1)),
        None if list.len() > MOST.0 => Err(format!("{key}: it has more than {} entries", MOST.0)),
        None => Ok(()),
    }
}

/// The beginning of a text, for an error.
fn cut(text: &str) -> String {
    text.chars().take(64).collect::<String>().escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "name: python-ml\nversion: 1.0.0\nbase: {language: python, version: \"3.11\"}\n";

    fn why(more: &str) -> String {
        Recipe::parse(&format!("{HEAD}{more}")).unwrap_err().to_string()
    }

    #[test]
    fn whole_recipe_becomes_a_description() {
        let text = format!(
            "{HEAD}schema_version: \"1.0\"\ndescription: d\npip: [numpy>=1.24, six]\npip_options: --no-deps --index-url http://x\n\
             environment: {{A: b, PATH_PREPEND: /x}}\nrequirements: {{gpu: true, cuda_version: \"12.1\", min_memory: 1GiB}}\n\
             platforms: [ubuntu-amd64]\nlibraries: [blas]\nhooks: {{timeout: 5m, pre_install: echo, post_install: \"true\"}}\n"
        );
        let recipe = Recipe::parse(&text).unwrap();
        assert_eq!(recipe.pip_options, ["--no-deps", "--index-url", "http://x"]);
        assert_eq!((recipe.min_memory, recipe.hook_time), (1 << 30, Duration::from_secs(300)));
        let made = recipe.to_description();
        assert_eq!(Description::parse(&made.to_yaml(), Path::new("x")).unwrap(), made);
        assert_eq!(made.environment["PATH_PREPEND"], "/x:/opt/runtime/venv/bin:/opt/runtime/bin");
        assert_eq!(made.libraries, ["blas", "cuda 12.1"]);
        assert!(made.requirements.gpu && made.packages == ["numpy>=1.24", "six"]);
    }

    #[test]
    fn unknown_keys_are_refused_with_their_line_and_what_is_allowed() {
        for (more, part) in [
            ("pips: []\n", "pips"),
            ("hooks: {pre: x}\n", "pre_install"),
            ("requirements: {cpus: 4}\n", "min_memory"),
        ] {
            let why = why(more);
            assert!(why.contains("unknown field") && why.contains(part) && why.contains("line 4"), "{why}");
        }
        assert!(Recipe::parse("name: a\nversion: 1.0.0\n").unwrap_err().to_string().contains("base"));
    }

    #[test]
    fn values_that_break_a_rule_are_refused_by_their_key() {
        for (more, part) in [
            ("schema_version: \"2.0\"\n", "schema_version"),
            ("npm: [left-pad]\n", "npm: it needs base.language: node"),
            ("pip: [\"--index-url=http://x\"]\n", "options go into pip_options"),
            ("pip: [\"a\\nb\"]\n", "pip: \"a\\nb\" is no line"),
            ("environment: {JOB_TYPE: x}\n", "environment"),
            ("hooks: {timeout: never}\n", "hooks.timeout"),
            ("requirements: {min_memory: much}\n", "min_memory"),
            ("description: \"a\\nb\"\n", "description"),
        ] {
            let why = why(more);
            assert!(why.contains(part), "{part}: {why}");
        }
        // A plain scalar is the text that stands there, whatever YAML makes of it.
        let plain = Recipe::parse(&HEAD.replace("\"3.11\"", "3.10")).unwrap();
        assert_eq!(plain.language_version, "3.10");
        let bad = HEAD.replace("python-ml", "../x");
        assert!(Recipe::parse(&bad).is_err() && Recipe::parse(&HEAD.replace("python,", "cobol,")).is_err());
        assert!(Recipe::parse(&"#".repeat(MAX_RECIPE + 1)).is_err());
    }
}

//! Values of flags: numbers with units and `K=V` pairs. Pure; the flag's name goes in, so that the
//! error can name it.

use super::super::error::{Error, Result};
use crate::job::env;

const KIB: u64 = 1024;

/// The longest value of an environment variable, bytes; the kernel takes 128 KiB for `K=V` as a whole.
pub(crate) const MAX_ENV_VALUE: usize = env::MAX_VALUE;

/// `invalid value "x" for --max-cpu: why`.
pub(crate) fn invalid(flag: &str, value: &str, why: &str) -> Error {
    Error::usage(format!("invalid value {value:?} for --{flag}: {why}"))
}

/// A percentage of one core, with or without a percent sign.
pub(crate) fn percent(flag: &str, text: &str) -> Result<i32> {
    let digits = text.strip_suffix('%').unwrap_or(text);
    whole(digits).and_then(|n| i32::try_from(n).ok()).ok_or_else(|| {
        invalid(flag, text, "give percent of one core as a whole number, for example 50 or 250")
    })
}

/// Memory in MB for the wire: a plain number is MB; with a unit it is rounded up to whole MB.
pub(crate) fn megabytes(flag: &str, text: &str) -> Result<i32> {
    let wrong = || invalid(flag, text, "give MB as a whole number, or a size such as 512M or 2G");
    let mb = match split_unit(text).ok_or_else(wrong)? {
        (number, None) => number,
        (number, Some(unit)) => number.checked_mul(unit).ok_or_else(wrong)?.div_ceil(KIB * KIB),
    };
    i32::try_from(mb).map_err(|_| wrong())
}

/// A number of things.
pub(crate) fn count(flag: &str, text: &str) -> Result<i32> {
    let number = text.parse::<i32>().ok().filter(|number| *number >= 0);
    number.ok_or_else(|| invalid(flag, text, "give a whole number, 0 or more"))
}

/// Bytes a second of a network: a plain number is bytes.
pub(crate) fn rate(flag: &str, text: &str) -> Result<i64> {
    let wrong = || invalid(flag, text, "give bytes a second as a whole number, or a size such as 10M or 1G");
    let (number, unit) = split_unit(text).ok_or_else(wrong)?;
    number.checked_mul(unit.unwrap_or(1)).and_then(|rate| i64::try_from(rate).ok()).ok_or_else(wrong)
}

/// Bytes (a second) for the wire: a plain number is bytes.
pub(crate) fn bytes(flag: &str, text: &str) -> Result<i32> {
    let wrong =
        || invalid(flag, text, "give bytes a second below 2 GiB as a whole number, or a size such as 4M");
    let (number, unit) = split_unit(text).ok_or_else(wrong)?;
    let n = number.checked_mul(unit.unwrap_or(1)).ok_or_else(wrong)?;
    i32::try_from(n).map_err(|_| wrong())
}

/// A number and its unit in bytes: `512M`, `512MB`, `512MiB`, any case; 1024-based as in the server's config.
fn split_unit(text: &str) -> Option<(u64, Option<u64>)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let unit = match unit.to_ascii_lowercase().as_str() {
        "" => None,
        "b" => Some(1),
        "k" | "kb" | "kib" => Some(KIB),
        "m" | "mb" | "mib" => Some(KIB * KIB),
        "g" | "gb" | "gib" => Some(KIB * KIB * KIB),
        "t" | "tb" | "tib" => Some(KIB * KIB * KIB * KIB),
        _ => return None,
    };
    Some((whole(digits)?, unit))
}

/// Digits only: no sign, no blanks, which `parse` alone would let through.
fn whole(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// Splits `K=V` and checks both as the server does; without `=` the value is `None`. `secret` keeps what was typed out of
/// the error: a forgotten name would print the value.
pub(crate) fn pair(flag: &str, text: &str, secret: bool) -> Result<(String, Option<String>)> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_string())),
        None => (text, None),
    };
    if let Err(why) = env::check(name, "") {
        let hint =
            format!("--{flag} takes KEY=VALUE, or KEY alone to take the value from rnx's own environment");
        let hidden =
            "invalid environment variable name '***': it is empty, too long, or one that joblet sets itself";
        let text = if secret { hidden.to_owned() } else { why.0 };
        return Err(Error::usage(text).hint(hint));
    }
    if let Some(value) = &value {
        check_env_value(name, value)?;
    }
    Ok((name.to_string(), value))
}

/// Refuses what no process could be given.
pub(crate) fn check_env_value(name: &str, value: &str) -> Result<()> {
    if value.len() > MAX_ENV_VALUE {
        let text = format!(
            "environment variable {name}: value is too long ({} bytes, max {MAX_ENV_VALUE})",
            value.len()
        );
        return Err(Error::usage(text));
    }
    if value.contains('\0') {
        return Err(Error::usage(format!("environment variable {name}: the value contains a NUL byte")));
    }
    Ok(())
}

/// Whether a text looks like the name of a variable: a secret that was typed in its place seldom does.
pub(crate) fn is_usual_name(name: &str) -> bool {
    let mut letters = name.bytes();
    letters.next().is_some_and(|b| b.is_ascii_uppercase() || b == b'_')
        && letters.all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn memory_is_megabytes_unless_a_unit_says_otherwise() {
        for (text, mb) in [
            ("512", 512),
            ("512M", 512),
            ("512mib", 512),
            ("2G", 2048),
            ("1t", 1 << 20),
            ("0", 0),
            ("100k", 1),
            ("1b", 1),
        ] {
            assert_eq!(megabytes("max-memory", text).unwrap(), mb, "{text}");
        }
        for text in ["", "x", "-5", "+5", "1.5G", "512 M", "M", "5X", "99999999999", "99999999999999999999G"]
        {
            let e = megabytes("max-memory", text).unwrap_err().to_string();
            assert!(e.starts_with(&format!("invalid value {text:?} for --max-memory: ")), "{e}");
        }
    }

    #[test]
    fn cpu_and_io_take_whole_numbers() {
        assert_eq!(percent("max-cpu", "250").unwrap(), 250);
        assert_eq!(percent("max-cpu", "50%").unwrap(), 50);
        assert_eq!(bytes("max-iobps", "4M").unwrap(), 4 << 20);
        assert_eq!(bytes("max-iobps", "4194304").unwrap(), 4_194_304);
        for text in ["", "x", "-1", "1e3", "3000000000", "%"] {
            assert!(percent("max-cpu", text).is_err() && bytes("max-iobps", text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_variable_is_a_name_and_perhaps_a_value() {
        assert_eq!(pair("env", "A=b=c", false).unwrap(), ("A".into(), Some("b=c".into())));
        assert_eq!(pair("env", "_x1=", false).unwrap(), ("_x1".into(), Some(String::new())));
        assert_eq!(pair("env", "HOME", false).unwrap(), ("HOME".into(), None));
        for name in ["my.prop", "1A", "A B", "Ä", "A-B", "npm_config_//registry/:_auth"] {
            let taken = pair("env", &format!("{name}=1"), false).unwrap();
            assert_eq!(taken, (name.to_owned(), Some("1".into())));
        }
        for text in ["", "=x", "JOB_ID=x", "JOBLET_X", &format!("{}=x", "A".repeat(257))] {
            let e = pair("env", text, false).unwrap_err().to_string();
            assert!(e.starts_with("invalid environment variable name"), "{e}");
        }
        let long = format!("A={}", "x".repeat(MAX_ENV_VALUE + 1));
        assert!(
            pair("env", &long, false)
                .unwrap_err()
                .to_string()
                .contains("value is too long (32769 bytes, max 32768)")
        );
    }

    #[test]
    fn an_error_about_a_secret_never_repeats_it() {
        let e = pair("secret-env", "JOB_hunter2", true).unwrap_err();
        assert!(!format!("{e} {:?}", e.hint_text()).contains("hunter2"));
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused_but_never_a_panic(text in ".*") {
            let _ = (percent("a", &text), megabytes("a", &text), bytes("a", &text), pair("a", &text, true));
        }
    }
}

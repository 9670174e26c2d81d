//! The same command for several jobs. One job that fails does not keep the others from their turn; the exit code is
//! that of the first failure. With `--json` one job gives one object, as ever, and several give an array in which a
//! failure has the shape that every failure has.

use serde_json::Value;

use super::super::error::{Error, Result};
use super::super::out::Out;

/// Asks the server about each job and prints each answer. `print` shows one answer; `value` is its JSON in an array.
pub(super) fn each<T>(
    out: Out,
    uuids: &[String],
    mut ask: impl FnMut(&str) -> Result<T>,
    print: impl Fn(&T) -> Result<()>,
    value: impl Fn(&T) -> serde_json::Result<Value>,
) -> Result<i32> {
    if let [uuid] = uuids {
        print(&ask(uuid)?)?;
        return Ok(0);
    }
    let (mut values, mut code) = (Vec::with_capacity(uuids.len()), 0);
    for (at, uuid) in uuids.iter().enumerate() {
        match ask(uuid) {
            Ok(answer) if out.json => values.push(value(&answer).map_err(std::io::Error::from)?),
            Ok(answer) => {
                if at > 0 {
                    out.text("\n")?;
                }
                print(&answer)?;
            }
            // The others would fail in the same way, each after its own wait.
            Err(e) if e.is_unreachable() => return Err(e),
            Err(e) => {
                values.push(failed(uuid, &e));
                out.sentence(&e);
                code = if code == 0 { e.exit_code(None) } else { code };
            }
        }
    }
    if out.json {
        out.value(&values)?;
    }
    Ok(code)
}

fn failed(uuid: &str, error: &Error) -> Value {
    let mut value = Out::failure_value(error);
    value["uuid"] = uuid.into();
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use grpcio::RpcStatusCode;

    /// Runs over three jobs of which `b` fails with `code`; returns the asked ones, the printed ones, and the end.
    fn over(code: RpcStatusCode) -> (Vec<String>, Vec<String>, Result<i32>) {
        let (mut asked, printed) = (Vec::new(), std::cell::RefCell::new(Vec::new()));
        let ask = |uuid: &str| {
            asked.push(uuid.to_owned());
            match uuid {
                "b" => Err(Error::Call(code, String::from("no").into())),
                other => Ok(other.to_owned()),
            }
        };
        let print = |uuid: &String| {
            printed.borrow_mut().push(uuid.clone());
            Ok(())
        };
        let out = Out { json: false, colour: false };
        let end =
            each(out, &["a", "b", "c"].map(String::from), ask, print, |uuid| serde_json::to_value(uuid));
        (asked, printed.into_inner(), end)
    }

    #[test]
    fn one_failure_leaves_the_others_their_turn_and_gives_the_code() {
        let (asked, printed, end) = over(RpcStatusCode::FAILED_PRECONDITION);
        assert_eq!((asked.len(), printed, end.unwrap()), (3, vec!["a".to_owned(), "c".to_owned()], 6));
    }

    #[test]
    fn server_that_is_gone_ends_the_command_at_once() {
        let (asked, printed, end) = over(RpcStatusCode::UNAVAILABLE);
        assert_eq!((asked.len(), printed.len()), (2, 1));
        assert_eq!(end.unwrap_err().exit_code(None), 3);
    }

    #[test]
    fn a_failure_in_an_array_names_its_job() {
        let value = failed("f47a", &Error::Call(RpcStatusCode::NOT_FOUND, String::from("gone").into()));
        assert_eq!((value["uuid"].as_str(), value["code"].as_str()), (Some("f47a"), Some("NOT_FOUND")));
    }
}

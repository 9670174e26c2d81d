//! Many jobs from one entry: arrays by number and matrices by value.

use super::node_status::NodeStatus;

/// The elements of an entry, and how many of them run at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Array {
    /// The variables that each element gets beside those of its entry, in the order in which elements start.
    pub elements: Vec<Vec<(String, String)>>,
    /// Most elements that run at a time; `None`: no bound of its own.
    pub at_a_time: Option<usize>,
}

/// The variable that holds the number of an array's element.
pub(super) const INDEX: &str = "JOB_ARRAY_INDEX";
/// The variables of a matrix are this and the key in upper case.
const MATRIX: &str = "JOB_MATRIX_";
/// Most jobs of a workflow, with the elements of arrays counted.
pub const MAX_ELEMENTS: usize = 20_000;
/// Largest number of an element.
const MAX_INDEX: u64 = 999_999;

/// Reads Slurm's form: `0-999%50`, `1,3,7`, `0-100:10`; behind `%` stands how many run at a time.
///
/// # Errors
/// Another shape, a number twice, or more than `most` elements, as a sentence.
pub(super) fn parse(text: &str, most: usize) -> Result<Array, String> {
    let wrong = |why: &str| format!("array \"{}\": {why}", super::error::shown(text));
    let (list, bound) = text.split_once('%').map_or((text, None), |(list, bound)| (list, Some(bound)));
    let number = |part: &str| -> Result<u64, String> {
        let digits = !part.is_empty() && part.len() <= 6 && part.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| part.parse().ok()).flatten().ok_or_else(|| {
            wrong(&format!("write numbers up to {MAX_INDEX} as in 0-999, 1,3,7, 0-100:10 or 0-999%50"))
        })
    };
    let at_a_time = match bound.map(|bound| number(bound.trim())).transpose()? {
        Some(0) => return Err(wrong("at least 1 element runs at a time")),
        bound => bound.and_then(|bound| usize::try_from(bound).ok()),
    };
    let mut indices = Vec::new();
    for item in list.split(',').map(str::trim) {
        let (range, step) = item.split_once(':').unwrap_or((item, "1"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last, step) = (number(first)?, number(last)?, number(step)?);
        if first > last || step == 0 {
            return Err(wrong("a range rises, by a step of at least 1"));
        }
        let count = usize::try_from((last - first) / step + 1).unwrap_or(usize::MAX);
        if indices.len() + count > most {
            return Err(wrong(&format!("at most {most} elements are allowed")));
        }
        indices.extend((0..).map(|n| first + n * step).take(count));
    }
    let mut sorted = indices.clone();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(wrong("a number stands twice"));
    }
    let elements = indices.into_iter().map(|n| vec![(INDEX.to_owned(), n.to_string())]).collect();
    Ok(Array { elements, at_a_time })
}

/// Every combination of the values of each key; the last key changes fastest. Elements are numbered as well.
///
/// # Errors
/// A key without values, or more than `most` combinations, as a sentence.
pub(super) fn matrix(axes: &[(String, Vec<String>)], most: usize) -> Result<Array, String> {
    let mut elements: Vec<Vec<(String, String)>> = vec![Vec::new()];
    for (key, values) in axes {
        if values.is_empty() {
            return Err(format!("matrix: the key \"{}\" has no values", super::error::shown(key)));
        }
        if elements.len() * values.len() > most {
            return Err(format!("matrix: at most {most} combinations are allowed"));
        }
        let name = format!("{MATRIX}{}", key.to_ascii_uppercase());
        elements = elements
            .iter()
            .flat_map(|before| {
                values
                    .iter()
                    .map(|value| before.iter().cloned().chain([(name.clone(), value.clone())]).collect())
            })
            .collect();
    }
    for (n, element) in elements.iter_mut().enumerate() {
        element.push((INDEX.to_owned(), n.to_string()));
    }
    Ok(Array { elements, at_a_time: None })
}

/// How many elements have each status, in the order of [`NodeStatus::ALL`].
pub type Counts = [usize; NodeStatus::ALL.len()];

/// The one status that stands for all elements: while one is under way RUNNING; then FAILED if one failed, STOPPED if
/// one was stopped, CANCELED if one never ran, else COMPLETED.
pub fn fold(counts: &Counts) -> NodeStatus {
    let some = |status: NodeStatus| counts[status as usize] > 0;
    if NodeStatus::ALL.into_iter().any(|status| !status.is_terminal() && some(status)) {
        let begun = NodeStatus::ALL.into_iter().filter(|status| some(*status));
        return match begun.max_by_key(|status| *status as usize) {
            Some(NodeStatus::Pending) => NodeStatus::Pending,
            Some(NodeStatus::Scheduled) => NodeStatus::Scheduled,
            Some(NodeStatus::Initializing) => NodeStatus::Initializing,
            _ => NodeStatus::Running,
        };
    }
    [NodeStatus::Failed, NodeStatus::Stopped, NodeStatus::Canceled]
        .into_iter()
        .find(|status| some(*status))
        .unwrap_or(NodeStatus::Completed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indices(text: &str) -> Vec<String> {
        let array = parse(text, 1000).unwrap_or_else(|e| panic!("{e}"));
        array.elements.into_iter().map(|mut element| element.remove(0).1).collect()
    }

    #[test]
    fn slurms_forms_are_read() {
        assert_eq!(indices("3"), ["3"]);
        assert_eq!(indices("0-3"), ["0", "1", "2", "3"]);
        assert_eq!(indices("9,0-4:2"), ["9", "0", "2", "4"]);
        let array = parse("0-999%50", 1000).unwrap();
        assert_eq!((array.elements.len(), array.at_a_time), (1000, Some(50)));
        for bad in
            ["", "a", "3-1", "0-", "0-9:0", "0-9%0", "1,1", "0-1000", "9999999", "-1", "0-9%", "+1", "1 2"]
        {
            assert!(parse(bad, 1000).is_err(), "{bad}");
        }
    }

    #[test]
    fn matrix_makes_every_combination_and_numbers_it() {
        let axes =
            [("os".to_owned(), vec!["a".into(), "b".into()]), ("py".into(), vec!["1".into(), "2".into()])];
        let array = matrix(&axes, 4).unwrap();
        let pair = |n: usize| array.elements[n].iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>();
        assert_eq!(pair(2), ["JOB_MATRIX_OS=b", "JOB_MATRIX_PY=1", "JOB_ARRAY_INDEX=2"]);
        assert!(matrix(&axes, 3).is_err() && matrix(&[("x".into(), vec![])], 3).is_err());
    }

    #[test]
    fn one_status_stands_for_all_elements() {
        use NodeStatus::{Canceled, Completed, Failed, Pending, Running, Stopped};
        for (elements, expected) in [
            (vec![Pending, Pending], Pending),
            (vec![Completed, Pending], Running),
            (vec![Failed, Running], Running),
            (vec![Completed, Completed], Completed),
            (vec![Completed, Stopped, Failed], Failed),
            (vec![Canceled, Stopped], Stopped),
            (vec![Completed, Canceled], Canceled),
        ] {
            let mut counts = Counts::default();
            elements.iter().for_each(|status| counts[*status as usize] += 1);
            assert_eq!(fold(&counts), expected, "{elements:?}");
        }
    }
}

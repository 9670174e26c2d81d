//! Which layers several runtimes have, counted through once.

use std::collections::HashMap;

use super::layer::LayerDigest;
use crate::job::runtime::RuntimeId;

/// The layers of runtimes.
#[derive(Debug, Default)]
pub struct Sharing {
    /// The only runtime that has a layer; `None`: several have it.
    only: HashMap<LayerDigest, Option<RuntimeId>>,
}

impl Sharing {
    /// The layers of these runtimes.
    pub(super) fn of<'r>(runtimes: impl Iterator<Item = (&'r RuntimeId, &'r [LayerDigest])>) -> Sharing {
        let mut only: HashMap<LayerDigest, Option<RuntimeId>> = HashMap::new();
        for (id, layers) in runtimes {
            for digest in layers {
                let first = only.entry(digest.clone()).or_insert_with(|| Some(id.clone()));
                if first.as_ref() != Some(id) {
                    *first = None;
                }
            }
        }
        Sharing { only }
    }

    /// Whether any of them has the layer.
    pub(super) fn has(&self, digest: &LayerDigest) -> bool {
        self.only.contains_key(digest)
    }

    /// Whether another one than this has the layer.
    pub(super) fn is_shared(&self, digest: &LayerDigest, own: &RuntimeId) -> bool {
        self.only.get(digest).is_some_and(|only| only.as_ref() != Some(own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list of all runtimes collected the layers of all others for each, under the lock that the loop takes.
    #[test]
    fn each_layer_is_counted_once_for_all_runtimes() {
        let id = |text: &str| text.parse::<RuntimeId>().unwrap();
        let digest = |n: usize| format!("sha256:{n:064x}").parse::<LayerDigest>().unwrap();
        let ids: Vec<RuntimeId> = (0..50).map(|n| id(&format!("r{n}@1.0.0"))).collect();
        // Each has one of its own, one with its neighbour, and one that all have; the first names one twice.
        let layers = |n: usize| vec![digest(1000 + n), digest(n / 2), digest(999)];
        let mut of: Vec<Vec<LayerDigest>> = (0..50).map(layers).collect();
        of[0].push(digest(1000));
        let sharing = Sharing::of(ids.iter().zip(of.iter().map(Vec::as_slice)));
        assert_eq!(sharing.only.len(), 50 + 25 + 1);
        for (n, id) in ids.iter().enumerate() {
            let shared = of[n].iter().map(|digest| sharing.is_shared(digest, id)).collect::<Vec<_>>();
            assert_eq!(shared[..3], [false, true, true], "{n}");
        }
        assert!(!sharing.is_shared(&digest(1000), &ids[0]) && !sharing.has(&digest(7777)));
        assert!(sharing.is_shared(&digest(1000), &id("new@1.0.0")), "one that is not among them has it too");
    }
}

//! GPUs that a job asks for, and those that it has.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::InvalidField;

/// Most GPUs that one job can ask for: more than any host has.
const MOST: i32 = 256;

/// The wish of a job: so many GPUs for it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GpuWish {
    /// How many, at least 1.
    pub count: u32,
    /// Memory that each of them has at least, in MiB; 0: any. It chooses GPUs, and limits nothing.
    pub memory_mib: u32,
}

impl GpuWish {
    /// The wish of a request; `None` where it asks for none (`count` 0).
    ///
    /// # Errors
    /// A negative or absurd number, or memory without a number of GPUs.
    pub fn new(count: i32, memory_mib: i32) -> Result<Option<GpuWish>, InvalidField> {
        if !(0..=MOST).contains(&count) {
            return Err(InvalidField::new(format!(
                "invalid GPU count: {count}: a job can have 0 to {MOST} GPUs"
            )));
        }
        let memory = u32::try_from(memory_mib).map_err(|_| {
            InvalidField::new(format!(
                "invalid GPU memory: {memory_mib}: give MiB for each GPU, or 0 for any"
            ))
        })?;
        match (count, memory) {
            (0, 0) => Ok(None),
            (0, _) => {
                let text =
                    "gpu_memory_mb is the memory of each GPU: say with gpu_count how many the job gets";
                Err(InvalidField::new(text))
            }
            _ => Ok(Some(GpuWish { count: count.unsigned_abs(), memory_mib: memory })),
        }
    }
}

impl fmt::Display for GpuWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.count == 1 { "GPU" } else { "GPUs" };
        write!(f, "{} {noun}", self.count)?;
        if self.memory_mib > 0 {
            write!(f, " with {} MiB or more", self.memory_mib)?;
        }
        Ok(())
    }
}

/// A GPU that a job has, as it is remembered with the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuLease {
    /// The number that the node shows; it may change with a restart of the host.
    pub index: u32,
    /// The vendor's identity of it.
    pub uuid: String,
    /// The number of its device node.
    pub minor: u32,
    /// The reason why it became useless while the job had it, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
}

/// A device node of a job, beside those that every job has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNode {
    /// Its name below /dev.
    pub name: String,
    /// The number of its driver.
    pub major: u32,
    /// The number of the device among those of its driver.
    pub minor: u32,
}

/// Files of the host's GPU driver that jobs with GPUs see.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DriverFiles {
    /// The libraries of the driver.
    pub libraries: Vec<DriverLibrary>,
    /// The program `nvidia-smi`.
    pub program: Option<PathBuf>,
    /// A directory of CUDA.
    pub cuda: Option<PathBuf>,
}

/// One library of the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverLibrary {
    /// The file, absolute and without links.
    pub file: PathBuf,
    /// The names by which programs load it.
    pub names: Vec<String>,
}

/// Which files of the driver jobs with GPUs see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DriverParts {
    /// At least one library.
    pub libraries: bool,
    /// The program `nvidia-smi`.
    pub program: bool,
    /// A directory of CUDA.
    pub cuda: bool,
}

/// The order in which free GPUs are given to jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GpuStrategy {
    /// Those with the lowest numbers.
    #[default]
    FirstFit,
    /// Those of a NUMA node where few are free, so that others stay whole.
    Pack,
    /// Those of NUMA nodes where many are free.
    Spread,
    /// Those with the least memory that suffices.
    BestFit,
}

impl GpuStrategy {
    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FirstFit => "first-fit",
            Self::Pack => "pack",
            Self::Spread => "spread",
            Self::BestFit => "best-fit",
        }
    }
}

/// The treatment of a GPU's memory between two jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GpuScrub {
    /// Nothing of ours; the driver frees it.
    #[default]
    None,
    /// As much of it is in use as when the GPU is idle, or no job gets it.
    Verify,
    /// That too, and then all of it is overwritten.
    Zero,
}

impl GpuScrub {
    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Verify => "verify",
            Self::Zero => "zero",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wish_is_a_number_of_gpus_with_or_without_memory() {
        assert_eq!(GpuWish::new(0, 0), Ok(None));
        let wish = GpuWish::new(2, 8192).unwrap().unwrap();
        assert_eq!((wish.count, wish.memory_mib), (2, 8192));
        assert_eq!(wish.to_string(), "2 GPUs with 8192 MiB or more");
        assert_eq!(GpuWish::new(1, 0).unwrap().unwrap().to_string(), "1 GPU");
        for (count, memory, word) in
            [(-1, 0, "invalid GPU count: -1"), (257, 0, "256"), (1, -5, "-5"), (0, 4096, "gpu_count")]
        {
            let why = GpuWish::new(count, memory).unwrap_err().0;
            assert!(why.contains(word), "{why}");
        }
    }
}

//! Limits and accounting of one job through cgroup v2.

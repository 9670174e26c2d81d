//! CA, server, admin and viewer certificates.

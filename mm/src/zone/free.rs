//! Stand-ins until `buddy` and `pcp` land.

/// Stand-in for `buddy::FreeAreas`.
#[derive(Debug, Default)]
pub struct FreeAreas {}

impl FreeAreas {
    /// Nothing free.
    pub const fn new() -> Self {
        Self {}
    }
}

/// Stand-in for `pcp::Pcp`.
#[derive(Debug, Default)]
pub struct Pcp {}

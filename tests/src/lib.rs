//! The host side of the tests: boots the in-kernel suites and reports each of their tests by name.

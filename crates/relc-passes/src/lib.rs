//! The compiler's passes, from import clean-up to the conservation check.

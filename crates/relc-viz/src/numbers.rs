//! Numbers as people read them.

/// A number with so many significant digits: plainly where it is neither large nor small, else with an exponent, so
/// that no number looks like 0 that is not.
pub fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".into();
    }
    if !value.is_finite() {
        return value.to_string();
    }
    let scientific = format!("{value:.*e}", digits.saturating_sub(1));
    let exponent = scientific.rsplit_once('e').and_then(|(_, e)| e.parse::<i32>().ok()).unwrap_or(0);
    if !(-4..6).contains(&exponent) {
        return scientific;
    }
    let decimals = usize::try_from(digits as i32 - 1 - exponent).unwrap_or(0);
    format!("{value:.decimals$}")
}

/// A number with four digits behind the point; a small one with its exponent.
pub fn fixed(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-3 { format!("{value:.1e}") } else { format!("{value:.4}") }
}

/// A share as a percentage.
pub fn percent(share: f64) -> String {
    format!("{} %", significant(share * 100.0, 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_count_from_the_first_that_is_not_zero() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1.000"),
            (4.732_810_497, "4.733"),
            (-0.000_123_456, "-0.0001235"),
            (1e-7, "1.000e-7"),
            (9.9999e-5, "0.0001000"),
            (123_456.0, "123456"),
            (999_999.9, "1.000e6"),
            (1.234_567e12, "1.235e12"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(significant(value, 4), text, "{value}");
        }
        assert_eq!(percent(0.079), "7.90 %");
        assert_eq!([0.0, 0.12345, -2.0, 1e-4].map(fixed), ["0.0000", "0.1235", "-2.0000", "1.0e-4"]);
        assert_eq!(percent(1e-9), "1.00e-7 %");
    }
}

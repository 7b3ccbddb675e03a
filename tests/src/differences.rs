//! How far two measurements of the same lie apart.

/// Sorts and prints what one measurement has beyond another, µs: least, median, 90th percentile, most.
pub fn print(what: &str, differences: &mut [f64]) {
    assert!(!differences.is_empty(), "{what}: nothing to compare");
    differences.sort_by(f64::total_cmp);
    let at = |share: f64| differences[((differences.len() - 1) as f64 * share) as usize];
    println!(
        "{what}: {} times; difference: least {:.1} µs, median {:.1} µs, p90 {:.1} µs, most {:.1} µs",
        differences.len(),
        at(0.0),
        at(0.5),
        at(0.9),
        at(1.0)
    );
}

//! scratch
use fhir::json::{parse, Limits};
#[test]
fn all() {
    let t = std::time::Instant::now();
    let c = models::Catalogue::built_in().unwrap();
    println!("load {:?}", t.elapsed());
    for (id, f) in [("prevent-base","prevent_base"),("ckd-epi-2021","ckd_epi_2021"),("kfre-4","kfre4"),("fib-4","fib4"),("meld-3","meld3"),("news2","news2")] {
        let b = std::fs::read(format!("/work/shared/models/vectors/{f}.json")).unwrap();
        let j = parse(&b, &Limits::default()).unwrap();
        let r = models::eval(&c, id, &j).unwrap();
        println!("{id}: {} vectors, {} values, max {:e}, {} failures", r.count, r.values, r.max_abs_difference, r.failures.len());
        for f in r.failures.iter().take(5) { println!("   {f}"); }
    }
}

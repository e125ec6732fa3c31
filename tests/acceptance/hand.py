"""The published formulas, evaluated by hand from the table of the patients' latest values, beside what
`augury score --as-of latest` wrote (argument: its NDJSON). Knows nothing of the server's code."""

import csv
import datetime
import json
import math
import os
import pathlib
import sys

SHARED = pathlib.Path(os.environ["AUGURY_SHARED"])
BASE = "https://augury.dev/fhir/"
TOLERANCE = 1e-9


def ckd_epi_2021(creatinine, age, female):
    kappa, alpha = (0.7, -0.241) if female else (0.9, -0.302)
    ratio = creatinine / kappa
    egfr = 142 * min(ratio, 1) ** alpha * max(ratio, 1) ** -1.2 * 0.9938**age
    return egfr * 1.012 if female else egfr


def kfre_4(age, female, egfr, acr, north_america):
    lp = (
        -0.2201 * (age / 10 - 7.036)
        + 0.2467 * ((0 if female else 1) - 0.5642)
        - 0.5567 * (egfr / 5 - 7.222)
        + 0.4510 * (math.log(acr) - 5.137)
    )
    two, five = (0.9750, 0.9240) if north_america else (0.9832, 0.9365)
    return {"2y": 1 - two ** math.exp(lp), "5y": 1 - five ** math.exp(lp)}


def prevent_base(coefficients, age, tc, hdl, sbp, bmi, egfr, diabetes, smoker, antihypertensive, statin):
    a = (age - 55) / 10
    non_hdl = (tc - hdl) * 0.02586 - 3.5
    hdl = (hdl * 0.02586 - 1.3) / 0.3
    high = (max(sbp, 110) - 130) / 20
    obese = (max(bmi, 30) - 30) / 5
    low_egfr = (min(egfr, 60) - 60) / -15
    terms = {
        "constant": 1,
        "age": a,
        "age_sq": a * a,
        "non_hdl": non_hdl,
        "hdl": hdl,
        "sbp_lt110": (min(sbp, 110) - 110) / 20,
        "sbp_ge110": high,
        "dm": diabetes,
        "smoking": smoker,
        "bmi_lt30": (min(bmi, 30) - 25) / 5,
        "bmi_ge30": obese,
        "egfr_lt60": low_egfr,
        "egfr_ge60": (max(egfr, 60) - 90) / -15,
        "antihtn": antihypertensive,
        "statin": statin,
        "antihtn_x_sbp_ge110": antihypertensive * high,
        "statin_x_non_hdl": statin * non_hdl,
        "age_x_non_hdl": a * non_hdl,
        "age_x_hdl": a * hdl,
        "age_x_sbp_ge110": a * high,
        "age_x_dm": a * diabetes,
        "age_x_smoking": a * smoker,
        "age_x_bmi_ge30": a * obese,
        "age_x_egfr_lt60": a * low_egfr,
    }
    lp = sum(value * terms[name] for name, value in coefficients.items())
    return 1 / (1 + math.exp(-lp))


def results(path):
    """(patient, model) → (as of, {output: number} or None for a refusal)"""
    found = {}
    for line in open(path, encoding="utf-8"):
        resource = json.loads(line)
        numbers = {}
        for prediction in resource["prediction"]:
            keys = [c["code"] for c in prediction["outcome"].get("coding", []) if c["system"] == BASE + "CodeSystem/output"]
            extensions = prediction.get("_probabilityDecimal", {}).get("extension", []) + prediction.get("extension", [])
            for extension in extensions:
                if extension["url"].endswith("/risk-fraction"):
                    numbers[keys[0]] = extension["valueDecimal"]
                if extension["url"].endswith("/score"):
                    numbers[keys[0]] = extension["valueQuantity"]["value"]
        reasons = [e for e in resource.get("extension", []) if e["url"].endswith("/input-issue")]
        key = resource["subject"]["reference"].removeprefix("Patient/"), resource["method"]["coding"][0]["code"]
        assert numbers or reasons, f"{key}: neither a number nor a reason"
        assert key not in found, f"{key}: twice"
        found[key] = resource["occurrenceDateTime"], numbers or None
    return found


def completed_years(birth, at):
    birth, at = datetime.date.fromisoformat(birth), datetime.date.fromisoformat(at[:10])
    return at.year - birth.year - ((at.month, at.day) < (birth.month, birth.day))


def main():
    found = results(sys.argv[1])
    models = {model for _, model in found}
    table = json.load(open(SHARED / "models/coefficients/prevent.json", encoding="utf-8"))["coefficients"]["base"]
    compared, worst, refused = 0, 0.0, 0
    for row in csv.DictReader(open(SHARED / "data/synthea/open/index.csv", encoding="utf-8")):
        patient, female = row["patient_id"], row["sex"] == "female"
        assert all((patient, model) in found for model in models), f"{patient}: not every model answered"
        number = lambda name: float(row[name + "_value"])
        pairs = []
        as_of, eGFR = found[patient, "ckd-epi-2021"]
        age = completed_years(row["birthDate"], as_of)
        if eGFR:
            by_hand = ckd_epi_2021(number("creat"), age, female)
            pairs.append(("egfr", next(iter(eGFR.values())), by_hand))
        _, kidney = found[patient, "kfre-4"]
        if kidney:
            # No address of these patients is outside of the United States.
            by_hand = kfre_4(age, female, ckd_epi_2021(number("creat"), age, female), number("uacr"), True)
            for years, value in by_hand.items():
                pairs += [(years, v, value) for k, v in kidney.items() if years in k]
        _, heart = found[patient, "prevent-base"]
        if heart:
            egfr = ckd_epi_2021(number("creat"), age, female)
            flag = lambda name: 1 if row[name] not in ("", "0", "no", "False", "false") else 0
            smoker = 1 if "current" in row["smoke_value"].lower() or "every day" in row["smoke_value"].lower() else 0
            for key, value in heart.items():
                horizon, outcome = key.split(".", 1)
                coefficients = table[horizon][row["sex"]][outcome]
                by_hand = prevent_base(
                    coefficients, age, number("tc"), number("hdl"), number("sbp"), number("bmi"), egfr,
                    flag("diabetes_44054006"), smoker, flag("htn_med_active"), flag("statin"),
                )
                pairs.append((key, value, by_hand))
        refused += sum(1 for model in models if found[patient, model][1] is None)
        for name, ours, by_hand in pairs:
            difference = abs(ours - by_hand)
            worst, compared = max(worst, difference), compared + 1
            if difference > TOLERANCE * max(1, abs(by_hand)):
                sys.exit(f"{patient} {name}: {ours} is not {by_hand}")
    assert compared > 20, f"only {compared} numbers to compare"
    print(f"{compared} numbers agree with the formulas by hand, largest difference {worst:.1e}; {refused} reasoned refusals")


main()

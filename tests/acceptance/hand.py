"""The published formulas, evaluated by hand from the table of the patients' latest values, beside what
`augury score --as-of latest` wrote. Arguments: the reference data's folder, the NDJSON."""

import collections
import csv
import datetime
import json
import pathlib
import sys

from assessments import numbers, question, reasons
from formulas import ckd_epi_2021, kfre_4, prevent_base

SHARED = pathlib.Path(sys.argv[1])
TOLERANCE = 1e-9


def results(path):
    """(patient, model) → (as of, {output: number} or None for a refusal)"""
    found = {}
    for line in open(path, encoding="utf-8"):
        resource = json.loads(line)
        key, given = question(resource), numbers(resource)
        assert given or reasons(resource), f"{key}: neither a number nor a reason"
        assert key not in found, f"{key}: twice"
        found[key] = resource["occurrenceDateTime"], given or None
    return found


def completed_years(birth, at):
    birth, at = datetime.date.fromisoformat(birth), datetime.date.fromisoformat(at[:10])
    return at.year - birth.year - ((at.month, at.day) < (birth.month, birth.day))


def main():
    found = results(sys.argv[2])
    models = {model for _, model in found}
    table = json.load(open(SHARED / "models/coefficients/prevent.json", encoding="utf-8"))["coefficients"]["base"]
    compared, worst, refused = collections.Counter(), 0.0, 0
    for row in csv.DictReader(open(SHARED / "data/synthea/open/index.csv", encoding="utf-8")):
        patient, female = row["patient_id"], row["sex"] == "female"
        assert all((patient, model) in found for model in models), f"{patient}: not every model answered"
        number = lambda name: float(row[name + "_value"])
        pairs = []
        as_of, eGFR = found[patient, "ckd-epi-2021"]
        age = completed_years(row["birthDate"], as_of)
        if eGFR:
            by_hand = ckd_epi_2021(number("creat"), age, female)
            pairs.append(("ckd-epi-2021 egfr", next(iter(eGFR.values())), by_hand))
        _, kidney = found[patient, "kfre-4"]
        if kidney:
            # No address of these patients is outside of the United States.
            by_hand = kfre_4(age, female, ckd_epi_2021(number("creat"), age, female), number("uacr"), True)
            for years, value in by_hand.items():
                pairs += [("kfre-4 " + years, v, value) for k, v in kidney.items() if years in k]
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
                pairs.append(("prevent-base " + key, value, by_hand))
        refused += sum(1 for model in models if found[patient, model][1] is None)
        for name, ours, by_hand in pairs:
            difference = abs(ours - by_hand)
            worst = max(worst, difference)
            compared[name.split()[0]] += 1
            if difference > TOLERANCE * max(1, abs(by_hand)):
                sys.exit(f"{patient} {name}: {ours} is not {by_hand}")
    assert len(compared) == 3, f"only {dict(compared)} to compare"
    print(f"{compared.total()} numbers ({dict(compared)}) agree with the formulas by hand, largest difference {worst:.1e}; {refused} reasoned refusals")


main()

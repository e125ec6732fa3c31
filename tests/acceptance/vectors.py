"""Are our formulas by hand those of the papers? Each against its published test vectors
(argument: the folder of the reference data)."""

import json
import pathlib
import sys

import formulas

MODELS = pathlib.Path(sys.argv[1]) / "models"
PREVENT = json.load(open(MODELS / "coefficients/prevent.json", encoding="utf-8"))["coefficients"]["base"]


def prevent(x):
    horizons = ("10y", "30y") if x["age"] <= 59 else ("10y",)
    return {
        horizon: {
            outcome: formulas.prevent_base(
                coefficients, x["age"], x["total_cholesterol"], x["hdl_cholesterol"], x["systolic_bp"], x["bmi"],
                x["egfr"], x["diabetes"], x["current_smoker"], x["antihypertensive"], x["statin"],
            )
            for outcome, coefficients in PREVENT[horizon][x["sex"]].items()
        }
        for horizon in horizons
    }


def kidney_failure(x):
    by_hand = formulas.kfre_4(x["age"], x["sex"] == "female", x["egfr"], x["uacr"], x["region"] == "NA")
    return {"kidney_failure_" + years: value for years, value in by_hand.items()}


def liver(x):
    score, raw = formulas.meld_3(
        x["age"], x["sex"] == "female", x["creatinine"], x["bilirubin"], x["inr"], x["sodium"], x["albumin"],
        x["dialysis_2x_week"],
    )
    return {"meld3": score, "meld3_unrounded_uncapped": raw}


def early_warning(x):
    components = x.get("subscores") or formulas.news_2(
        x["respiratory_rate"], x["spo2"], x.get("spo2_scale2", False), x.get("supplemental_o2", False),
        x["systolic_bp"], x["pulse"], x["alert"], x["temperature"],
    )
    return {"score": sum(components.values()), "components": components, "any_single_3": 3 in components.values()}


BY_HAND = {
    "prevent_base": prevent,
    "ckd_epi_2021": lambda x: {"egfr": formulas.ckd_epi_2021(x["creatinine"], x["age"], x["sex"] == "female")},
    "kfre4": kidney_failure,
    "fib4": lambda x: {"fib4": formulas.fib_4(x["age"], x["ast"], x["alt"], x["platelets"])},
    "meld3": liver,
    "news2": early_warning,
}


def leaves(tree, path=()):
    for key, value in tree.items():
        yield from leaves(value, (*path, key)) if isinstance(value, dict) else [((*path, key), value)]


def main():
    for name, by_hand in BY_HAND.items():
        compared = 0
        for vector in json.load(open(MODELS / f"vectors/{name}.json", encoding="utf-8"))["vectors"]:
            inputs = {k: v["value"] if isinstance(v, dict) and "value" in v else v for k, v in vector["inputs"].items()}
            ours = dict(leaves(by_hand(inputs)))
            # What is printed in a paper is rounded; what was computed is not.
            rounded = 0.51 * 10 ** -vector["decimals"] if "decimals" in vector else 1e-10
            for path, expected in leaves(vector["expected"]):
                compared += 1
                if abs(ours[path] - expected) > vector.get("tolerance", rounded):
                    sys.exit(f"{vector['id']} {'.'.join(path)}: by hand {ours[path]}, published {expected}")
        print(f"{name}: the formula by hand agrees with {compared} published numbers")


main()

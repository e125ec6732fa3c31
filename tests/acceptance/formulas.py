"""The published formulas, written down a second time from their papers, knowing nothing of the server."""

import math


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


def fib_4(age, ast, alt, platelets):
    return age * ast / (platelets * math.sqrt(alt))


def meld_3(age, female, creatinine, bilirubin, inr, sodium, albumin, dialysis):
    """The score as policy rounds and caps it, and before."""
    creatinine = 3.0 if dialysis else min(max(creatinine, 1.0), 3.0)
    bilirubin, inr = max(bilirubin, 1.0), max(inr, 1.0)
    sodium, albumin = min(max(sodium, 125), 137), min(max(albumin, 1.5), 3.5)
    raw = (
        4.56 * math.log(bilirubin)
        + 0.82 * (137 - sodium)
        - 0.24 * (137 - sodium) * math.log(bilirubin)
        + 9.09 * math.log(inr)
        + 11.14 * math.log(creatinine)
        + 1.85 * (3.5 - albumin)
        - 1.83 * (3.5 - albumin) * math.log(creatinine)
    )
    raw += 7.33 if age < 18 else 6 + (1.33 if female else 0)
    return min(max(math.floor(raw + 0.5), 6), 40), raw


def points(value, *steps):
    """The points of the last (from, points) whose threshold is reached."""
    return [gained for threshold, gained in steps if value >= threshold][-1]


def news_2(rate, spo2, scale_2, oxygen, systolic, pulse, alert, temperature):
    low = -math.inf
    if not scale_2:
        saturation = points(spo2, (low, 3), (92, 2), (94, 1), (96, 0))
    elif oxygen:
        saturation = points(spo2, (low, 3), (84, 2), (86, 1), (88, 0), (93, 1), (95, 2), (97, 3))
    else:
        saturation = points(spo2, (low, 3), (84, 2), (86, 1), (88, 0))
    return {
        "rr": points(rate, (low, 3), (9, 1), (12, 0), (21, 2), (25, 3)),
        "spo2": saturation,
        "o2": 2 if oxygen else 0,
        "sbp": points(systolic, (low, 3), (91, 2), (101, 1), (111, 0), (220, 3)),
        "pulse": points(pulse, (low, 3), (41, 1), (51, 0), (91, 1), (111, 2), (131, 3)),
        "conscious": 0 if alert else 3,
        "temp": points(temperature, (low, 3), (35.1, 1), (36.1, 0), (38.1, 1), (39.1, 2)),
    }

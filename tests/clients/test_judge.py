"""The models of fhir.resources (of FHIR R4B, which has the same shapes) look at each answer in the folder
AUGURY_ANSWERS: types, cardinality, required elements and formats."""

import json
import os
from pathlib import Path

import pytest
from fhir.resources.R4B import get_fhir_model_class
from pydantic import ValidationError

ANSWERS = sorted(Path(os.environ["AUGURY_ANSWERS"]).iterdir())


def findings(text):
    resource = json.loads(text)
    try:
        get_fhir_model_class(resource["resourceType"]).model_validate_json(text)
        return []
    except ValidationError as refused:
        return [(".".join(map(str, one["loc"])), one["msg"]) for one in refused.errors()]


@pytest.mark.parametrize("wrong", [{"status": None}, {"colour": "red"}, {"effectiveDateTime": "2024-13-01"}, {"valueString": "x", "valueInteger": 1}])
def test_it_sees_what_is_wrong_also_within_a_bundle(wrong):
    observation = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": observation}]}
    assert findings(json.dumps(bundle)) == []
    observation.update(wrong)
    assert findings(json.dumps(bundle))


def test_there_is_much_to_look_at():
    assert len(ANSWERS) > 80


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda path: path.name)
def test_the_shape_of(answer):
    assert findings(answer.read_text()) == []

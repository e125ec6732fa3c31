//! The 146 resource types of FHIR R4 (<https://hl7.org/fhir/R4/resourcelist.html>).

/// A concrete resource type. Its number is its place in the alphabetical list; R4 is frozen, so
/// the number is stable and stands for the type in the database.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceType(u8);

const NAMES: [&str; 146] = [
    "Account",
    "ActivityDefinition",
    "AdverseEvent",
    "AllergyIntolerance",
    "Appointment",
    "AppointmentResponse",
    "AuditEvent",
    "Basic",
    "Binary",
    "BiologicallyDerivedProduct",
    "BodyStructure",
    "Bundle",
    "CapabilityStatement",
    "CarePlan",
    "CareTeam",
    "CatalogEntry",
    "ChargeItem",
    "ChargeItemDefinition",
    "Claim",
    "ClaimResponse",
    "ClinicalImpression",
    "CodeSystem",
    "Communication",
    "CommunicationRequest",
    "CompartmentDefinition",
    "Composition",
    "ConceptMap",
    "Condition",
    "Consent",
    "Contract",
    "Coverage",
    "CoverageEligibilityRequest",
    "CoverageEligibilityResponse",
    "DetectedIssue",
    "Device",
    "DeviceDefinition",
    "DeviceMetric",
    "DeviceRequest",
    "DeviceUseStatement",
    "DiagnosticReport",
    "DocumentManifest",
    "DocumentReference",
    "EffectEvidenceSynthesis",
    "Encounter",
    "Endpoint",
    "EnrollmentRequest",
    "EnrollmentResponse",
    "EpisodeOfCare",
    "EventDefinition",
    "Evidence",
    "EvidenceVariable",
    "ExampleScenario",
    "ExplanationOfBenefit",
    "FamilyMemberHistory",
    "Flag",
    "Goal",
    "GraphDefinition",
    "Group",
    "GuidanceResponse",
    "HealthcareService",
    "ImagingStudy",
    "Immunization",
    "ImmunizationEvaluation",
    "ImmunizationRecommendation",
    "ImplementationGuide",
    "InsurancePlan",
    "Invoice",
    "Library",
    "Linkage",
    "List",
    "Location",
    "Measure",
    "MeasureReport",
    "Media",
    "Medication",
    "MedicationAdministration",
    "MedicationDispense",
    "MedicationKnowledge",
    "MedicationRequest",
    "MedicationStatement",
    "MedicinalProduct",
    "MedicinalProductAuthorization",
    "MedicinalProductContraindication",
    "MedicinalProductIndication",
    "MedicinalProductIngredient",
    "MedicinalProductInteraction",
    "MedicinalProductManufactured",
    "MedicinalProductPackaged",
    "MedicinalProductPharmaceutical",
    "MedicinalProductUndesirableEffect",
    "MessageDefinition",
    "MessageHeader",
    "MolecularSequence",
    "NamingSystem",
    "NutritionOrder",
    "Observation",
    "ObservationDefinition",
    "OperationDefinition",
    "OperationOutcome",
    "Organization",
    "OrganizationAffiliation",
    "Parameters",
    "Patient",
    "PaymentNotice",
    "PaymentReconciliation",
    "Person",
    "PlanDefinition",
    "Practitioner",
    "PractitionerRole",
    "Procedure",
    "Provenance",
    "Questionnaire",
    "QuestionnaireResponse",
    "RelatedPerson",
    "RequestGroup",
    "ResearchDefinition",
    "ResearchElementDefinition",
    "ResearchStudy",
    "ResearchSubject",
    "RiskAssessment",
    "RiskEvidenceSynthesis",
    "Schedule",
    "SearchParameter",
    "ServiceRequest",
    "Slot",
    "Specimen",
    "SpecimenDefinition",
    "StructureDefinition",
    "StructureMap",
    "Subscription",
    "Substance",
    "SubstanceNucleicAcid",
    "SubstancePolymer",
    "SubstanceProtein",
    "SubstanceReferenceInformation",
    "SubstanceSourceMaterial",
    "SubstanceSpecification",
    "SupplyDelivery",
    "SupplyRequest",
    "Task",
    "TerminologyCapabilities",
    "TestReport",
    "TestScript",
    "ValueSet",
    "VerificationResult",
    "VisionPrescription",
];

impl ResourceType {
    /// The type of that exact name.
    pub fn parse(name: &str) -> Option<Self> {
        let at = NAMES.binary_search(&name).ok()?;
        u8::try_from(at).ok().map(Self)
    }

    /// The name.
    pub fn name(self) -> &'static str {
        NAMES.get(usize::from(self.0)).copied().unwrap_or_default()
    }

    /// The number, 0 to 145.
    pub fn index(self) -> u8 {
        self.0
    }

    /// The type of that number.
    pub fn from_index(index: u8) -> Option<Self> {
        (usize::from(index) < NAMES.len()).then_some(Self(index))
    }

    /// All of them, in alphabetical order.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        (0..NAMES.len()).map(|at| Self(u8::try_from(at).unwrap_or_default()))
    }

    /// AuditEvent.
    pub const AUDIT_EVENT: Self = Self(6);

    /// Basic.
    pub const BASIC: Self = Self(7);

    /// Binary.
    pub const BINARY: Self = Self(8);

    /// Bundle.
    pub const BUNDLE: Self = Self(11);

    /// CapabilityStatement.
    pub const CAPABILITY_STATEMENT: Self = Self(12);

    /// CareTeam.
    pub const CARE_TEAM: Self = Self(14);

    /// Condition.
    pub const CONDITION: Self = Self(27);

    /// Consent.
    pub const CONSENT: Self = Self(28);

    /// Device.
    pub const DEVICE: Self = Self(34);

    /// Encounter.
    pub const ENCOUNTER: Self = Self(43);

    /// Group.
    pub const GROUP: Self = Self(57);

    /// Linkage.
    pub const LINKAGE: Self = Self(68);

    /// List.
    pub const LIST: Self = Self(69);

    /// Medication.
    pub const MEDICATION: Self = Self(74);

    /// MedicationRequest.
    pub const MEDICATION_REQUEST: Self = Self(78);

    /// MedicationStatement.
    pub const MEDICATION_STATEMENT: Self = Self(79);

    /// Observation.
    pub const OBSERVATION: Self = Self(95);

    /// OperationOutcome.
    pub const OPERATION_OUTCOME: Self = Self(98);

    /// Organization.
    pub const ORGANIZATION: Self = Self(99);

    /// Parameters.
    pub const PARAMETERS: Self = Self(101);

    /// Patient.
    pub const PATIENT: Self = Self(102);

    /// Practitioner.
    pub const PRACTITIONER: Self = Self(107);

    /// PractitionerRole.
    pub const PRACTITIONER_ROLE: Self = Self(108);

    /// Provenance.
    pub const PROVENANCE: Self = Self(110);

    /// RiskAssessment.
    pub const RISK_ASSESSMENT: Self = Self(119);

    /// Subscription.
    pub const SUBSCRIPTION: Self = Self(129);

    /// ValueSet.
    pub const VALUE_SET: Self = Self(143);
}

impl std::fmt::Display for ResourceType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::fmt::Debug for ResourceType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::ResourceType;

    #[test]
    fn names_are_sorted_and_numbers_come_back() {
        for kind in ResourceType::all() {
            assert_eq!(ResourceType::parse(kind.name()), Some(kind));
            assert_eq!(ResourceType::from_index(kind.index()), Some(kind));
        }
        assert_eq!(ResourceType::AUDIT_EVENT.name(), "AuditEvent");
        assert_eq!(ResourceType::OBSERVATION.name(), "Observation");
        assert_eq!(ResourceType::RISK_ASSESSMENT.name(), "RiskAssessment");
        assert_eq!(ResourceType::SUBSCRIPTION.name(), "Subscription");
        assert_eq!(ResourceType::VALUE_SET.name(), "ValueSet");
        assert_eq!(ResourceType::parse("patient"), None);
    }
}

"""The consortium's side: strategies, rounds, reports. Never reads an image, a DICOM file or a patient table."""

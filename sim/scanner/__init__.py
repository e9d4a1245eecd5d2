"""A CT scanner: kernel, dose, slice thickness and drift (`scanner`), and the DICOM files it sends (`dicom`)."""

"""A phantom hospital on disk.

    preset   its scanner, case mix and disorder             plan      who comes to it
    archive  one patient's DICOM files, rows and truth      hospital  all patients of all hospitals, in parallel

A client is given the hospital's folder; the truth lies elsewhere.
"""

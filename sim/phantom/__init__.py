"""A thorax with interstitial lung disease in Hounsfield units, and the truth about it to the voxel.

    fields      smooth random fields and Worley cells      thorax    body wall, ribs, spine, heart, lungs
    trees       vessels and airways that fill a lung       template  one thorax with its trees, cached
    diseases    CLASSES: what a disease mixes, and where   placement exactly as many voxels as planned
    lesions     LESIONS: how each pattern looks            patient   make_phantom: one patient at one visit
    outcomes    age, lung function, progression, survival

Everything is drawn in millimetres from seeds: a patient is the same on a coarse and on a fine grid, and again at the next visit.
"""

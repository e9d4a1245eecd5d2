"""The zoo: every system of the field survey federated over phantom hospitals, and whether it does what it must do to count as working.

`keeper` runs what is not finished, and what a recipe starts from (`chain`); `systems` says what is asked of each system in terms of `criteria`.
They read a finished run (`ran`), look where its maps lie (`locating`), what it draws (`generated`), what it adds to `attenuation`, at what a
detector looks (`uip`) or take a part away (`ablations`); `findings` is a system's row.
"""

"""The zoo: every system of the field survey federated over phantom hospitals, and whether it does what it must do to count as working.

`keeper` runs what is not finished; `systems` says what is asked of each system in terms of `criteria`, which read a finished run (`ran`), look
where its maps lie (`locating`) or take a part away (`ablations`); `findings` is a system's row.
"""

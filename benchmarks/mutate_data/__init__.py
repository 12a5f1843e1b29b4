"""Give mutated data sets to both readers, that of `cloudrun check` and that of the trainer, and compare them.

python -m benchmarks.mutate_data --count 100000 --seed 15        the row of docs/reliability.md
python -m benchmarks.mutate_data --seed 15 --only image:4711     one input again, kept in --keep

An input is wrong where a reader raises anything but its own error, where one reader takes what the other refuses, or
where both take it and differ. Each input is made from the seed, its kind and its number alone.
"""

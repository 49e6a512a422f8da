"""The default beside every explicit setting on tables as people have them, and the memory that rows take."""

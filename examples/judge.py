# %% [markdown]
# # Judge a model
# A diagnosis in words and figures, and a report for the browser.

# %% data
from isthmus import Autoencoder, datasets, diagnose, write_report
from isthmus.plots import plot_training_curves, save

X = datasets.load_digits().X.reshape(-1, 64)
train, test = X[:1000], X[1500:]

# %% job
hasty = Autoencoder(16, max_epochs=2, random_state=0).fit(train)
model = Autoencoder(16, max_epochs=30, validation_fraction=0.1, random_state=0).fit(train)

found = diagnose(hasty, test, X_train=train)
for each in found.findings:
    if each.found:
        print(f"{each.name}: {each.text}\n  {each.remedy}")
print("faults of the model with 30 epochs:", diagnose(model, test, X_train=train).faults)

write_report(model, test, "report.html", X_train=train)  # one file, opens in a browser

# %% picture
save(plot_training_curves({"2 epochs": hasty, "30 epochs": model}, log=True), "judge.png")

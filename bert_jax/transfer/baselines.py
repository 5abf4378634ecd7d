"""What a fine-tuned encoder has to beat: words counted, and no reading at all."""

import numpy as np

from bert_jax.data.tasks import Task, require_sklearn


def tfidf_accuracy(task: Task) -> float:
  """Test accuracy of TF-IDF with logistic regression, on the same labelled and held-out texts.

  Words and pairs of words, logarithmic counts, scikit-learn's regularization. It reads the texts whole, where an
  encoder reads their first `transfer.max_seq_len` tokens.

  Raises:
    ValueError: scikit-learn is not installed.
  """
  require_sklearn()
  from sklearn.feature_extraction.text import TfidfVectorizer
  from sklearn.linear_model import LogisticRegression

  vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
  features = vectorizer.fit_transform(task.train.texts)
  classifier = LogisticRegression(max_iter=1000).fit(features, task.train.labels)
  return float(np.mean(classifier.predict(vectorizer.transform(task.test.texts)) == task.test.labels))


def majority_accuracy(task: Task) -> float:
  """Test accuracy of always naming the class that most test texts have: the most that not reading can reach."""
  return float(np.bincount(task.test.labels).max() / len(task.test.labels))

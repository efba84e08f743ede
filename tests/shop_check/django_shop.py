"""The shop of tests/shops/django, as a Django application makes and writes it: its model, and one act for each argument."""

import json
import os
import sys
from decimal import Decimal
from urllib.parse import urlparse

import django
from django.conf import settings

address = urlparse(os.environ["DATABASE_URL"])
settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": address.hostname,
            "PORT": address.port,
            "USER": address.username,
            "NAME": address.path.lstrip("/"),
        }
    },
    USE_TZ=True,
    TIME_ZONE="Europe/Paris",
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

from django.db import connection, models, transaction  # noqa: E402


class Restaurant(models.Model):
    name = models.CharField(max_length=100)

    class Meta:
        app_label = "shop"


class Order(models.Model):
    class Status(models.TextChoices):
        NEW = "new"
        IN_PROGRESS = "in_progress"
        READY = "ready"
        DONE = "done"
        CANCELLED = "cancelled"

    restaurant = models.ForeignKey(Restaurant, on_delete=models.PROTECT)
    status = models.CharField(max_length=20, choices=Status.choices, default=Status.NEW)
    customer_name = models.CharField(max_length=100)
    phone = models.CharField(max_length=20, blank=True)
    comment = models.TextField(blank=True)
    total = models.DecimalField(max_digits=10, decimal_places=2)
    payment_method = models.CharField(max_length=10, default="card")
    paid_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        app_label = "shop"


class OrderItem(models.Model):
    order = models.ForeignKey(Order, related_name="items", on_delete=models.CASCADE)
    product_name = models.CharField(max_length=200)
    quantity = models.PositiveIntegerField()
    price = models.DecimalField(max_digits=10, decimal_places=2)

    class Meta:
        app_label = "shop"


def schema():
    with connection.schema_editor() as editor:
        for model in (Restaurant, Order, OrderItem):
            editor.create_model(model)
    Restaurant.objects.create(id=7, name="Bistro")


@transaction.atomic
def create():
    order = Order.objects.create(restaurant_id=7, customer_name="Ann", comment="No nuts", total=Decimal("12.50"))
    OrderItem.objects.create(order=order, product_name="Pizza", quantity=2, price=Decimal("6.25"))
    return order.pk


def read(key):
    order = Order.objects.get(pk=key)
    return {"status": order.status, "touched": order.updated_at > order.created_at}


def finish(key):
    order = Order.objects.get(pk=key)
    order.status = Order.Status.DONE
    order.save()


def cancel(key):
    Order.objects.filter(pk=key).update(status=Order.Status.CANCELLED)


@transaction.atomic
def remove(key):
    OrderItem.objects.filter(order_id=key).delete()
    Order.objects.get(pk=key).delete()


if __name__ == "__main__":
    act, *key = sys.argv[1:]
    print(json.dumps(globals()[act](*key)))
